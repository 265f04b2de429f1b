"""Take labels out of a recording and keep them as the truth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.label_scaler import fit_label_scaler
from psvae_tune.data.session import Session
from psvae_tune.errors import ConfigError


@dataclass(frozen=True, slots=True)
class HiddenLabels:
    """Labels of a recording that no model sees."""

    names: tuple[str, ...]
    labels: NDArray[np.float32]
    """(frame, label) as they were recorded, or standardised by `scale_hidden`."""
    label_masks: NDArray[np.bool_]
    """(frame, label); False where the tracker lost the point."""


def hide_labels(session: Session, names: Sequence[str]) -> tuple[Session, HiddenLabels | None]:
    """Return a recording without some of its labels, and these labels; None if there are none.

    Raises
    ------
    ConfigError
        If the recording has no such label.
    """
    header = session.header
    if not names:
        return session, None
    if missing := [name for name in names if name not in header.label_names]:
        raise ConfigError("data.hidden_labels", f"{header.path} has no label {missing[0]!r}")
    assert session.labels is not None
    assert session.label_masks is not None
    is_hidden = np.isin(header.label_names, names)
    kept = np.flatnonzero(~is_hidden)
    hidden = np.flatnonzero(is_hidden)
    sc = session.labels_sc
    seen = replace(
        session,
        header=replace(
            header,
            label_names=tuple(header.label_names[i] for i in kept),
            has_labels_sc=header.has_labels_sc and len(kept) > 0,
        ),
        labels=session.labels[:, kept] if len(kept) else None,
        label_masks=session.label_masks[:, kept] if len(kept) else None,
        labels_sc=sc[:, kept] if sc is not None and len(kept) else None,
    )
    truth = HiddenLabels(
        tuple(header.label_names[i] for i in hidden),
        session.labels[:, hidden],
        session.label_masks[:, hidden],
    )
    return seen, truth


def scale_hidden(
    session: Session, hidden: HiddenLabels | None, train_clips: Sequence[int]
) -> HiddenLabels | None:
    """Return hidden labels standardised by the training clips of their session.

    Cameras that show one animal differently would else look like movements of the animal.

    Raises
    ------
    DataError
        If a label never varies, or is never valid, in the training clips.
    """
    if hidden is None:
        return None
    truth = replace(
        session,
        header=replace(session.header, label_names=hidden.names),
        labels=hidden.labels,
        label_masks=hidden.label_masks,
    )
    scaler = fit_label_scaler(truth, train_clips, "zscore")
    return replace(hidden, labels=scaler.transform(hidden.labels))

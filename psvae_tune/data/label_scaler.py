"""Put labels on a common scale, with the statistics of the training clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from psvae_tune.config.training import LabelScaling
from psvae_tune.data.session import Session
from psvae_tune.errors import DataError

Floats = NDArray[np.float64]
Labels = NDArray[np.float32]
MAX_UNITS = 1e30
"""Bound of a mean and a std, so that labels in the user's units fit float32."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelScaler:
    """A shift and a scale for the labels of each session: (labels - mean) / std."""

    mean: Floats
    """(session, label), in the user's units; a single row holds for every session."""
    std: Floats
    """(session, label), in the user's units."""

    @classmethod
    def identity(cls, n_labels: int) -> Self:
        """Return a scaler that leaves labels as they are."""
        return cls(np.zeros((1, n_labels)), np.ones((1, n_labels)))

    @classmethod
    def join(cls, scalers: Sequence[Self]) -> Self:
        """Return one scaler for all sessions."""
        mean, std = (
            np.concatenate([getattr(scaler, name) for scaler in scalers])
            for name in ("mean", "std")
        )
        return cls(mean, std)

    def transform(self, labels: NDArray[np.floating], session_index: int = 0) -> Labels:
        """Return standardised labels of shape (frame, label); masked entries mean nothing."""
        row = self.row(session_index)
        return ((labels - self.mean[row]) / self.std[row]).astype(np.float32)

    def inverse(self, labels: NDArray[np.floating], session_index: int = 0) -> Labels:
        """Return standardised labels of shape (frame, label) in the user's units again."""
        row = self.row(session_index)
        return (labels * self.std[row] + self.mean[row]).astype(np.float32)

    def row(self, session_index: int) -> int:
        """Return the row of a session in `mean` and `std`."""
        return session_index if len(self.mean) > 1 else 0

    def to_dict(self) -> dict[str, list[list[float]]]:
        """Return plain lists ``mean`` and ``std``, as JSON can hold them."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a scaler from lists (session, label) or, for a single row, (label,).

        Raises
        ------
        ValueError
            If they are no table of a mean and a positive std for each label.
        """
        mean, std = (np.atleast_2d(np.array(values[name], np.float64)) for name in ("mean", "std"))
        is_usable = np.abs([mean, std]).max(initial=0) < MAX_UNITS and (std > 0).all()
        if not is_usable:
            raise ValueError(f"needs numbers below {MAX_UNITS:g}, and a positive std")
        return cls(mean, std)


def fit_label_scaler(
    session: Session, train_clips: Sequence[int], scaling: LabelScaling
) -> LabelScaler:
    """Measure the labels of the training clips where the tracker had the point.

    Parameters
    ----------
    session
        A session with labels.
    train_clips
        Indices of its training clips.
    scaling
        ``zscore``: zero mean, unit variance; ``center``: zero mean; ``none``: as recorded.

    Raises
    ------
    DataError
        If a label never varies, or is never valid, in the training clips.
    """
    assert session.labels is not None
    assert session.label_masks is not None
    rows = np.concatenate([np.r_[session.clip(index)] for index in train_clips])
    labels = session.labels[rows].astype(np.float64)
    masks = session.label_masks[rows]
    if problems := flat_label_problems(session.header.label_names, labels, masks):
        raise DataError(
            session.header.path,
            [f"{problem}, in the training clips" for problem in problems],
            "drop the label, or change `trial_splits` or `rng_seed_data`",
        )
    n_valid = masks.sum(0)
    mean = np.where(masks, labels, 0).sum(0) / n_valid
    std = np.sqrt(np.where(masks, (labels - mean) ** 2, 0).sum(0) / n_valid)
    if scaling != "zscore":
        std = np.ones_like(std)
    if scaling == "none":
        mean = np.zeros_like(mean)
    return LabelScaler(mean[None], std[None])


def flat_label_problems(
    names: Sequence[str], labels: NDArray[np.floating], masks: NDArray[np.bool_]
) -> list[str]:
    """Return a problem for each label of (frame, label) that is constant or masked throughout."""
    problems = []
    for name, column, mask in zip(names, labels.T, masks.T, strict=True):
        valid = column[mask]
        if valid.size == 0:
            problems.append(f"label `{name}` is masked in every frame")
        elif valid.min() == valid.max():
            problems.append(f"label `{name}` never varies, got {valid[0]:g} in every valid frame")
    return problems

"""Labels on a common scale, with statistics of what the model may learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from psvae_tune.config.trial import LabelScaling
from psvae_tune.data.session import Session
from psvae_tune.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class LabelScaler:
    """A shift and a scale for each label: (labels - mean) / std."""

    names: tuple[str, ...]
    mean: NDArray[np.float64]
    """(label,), in the user's units."""
    std: NDArray[np.float64]
    """(label,), in the user's units."""

    def transform(self, labels: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return standardised labels of shape (frame, label); masked entries mean nothing."""
        return ((labels - self.mean) / self.std).astype(np.float32)

    def inverse(self, labels: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return labels of shape (frame, label) in the user's units again."""
        return (labels * self.std + self.mean).astype(np.float32)

    def to_dict(self) -> dict[str, list[Any]]:
        """Return plain lists, as JSON can hold them."""
        return {
            "names": list(self.names),
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[Any]]) -> Self:
        """Rebuild a scaler from what `to_dict` returned."""
        return cls(
            names=tuple(values["names"]),
            mean=np.array(values["mean"], dtype=np.float64),
            std=np.array(values["std"], dtype=np.float64),
        )


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
    return LabelScaler(session.header.label_names, mean, std)


def flat_label_problems(
    names: Sequence[str], labels: NDArray[np.floating], masks: NDArray[np.bool_]
) -> list[str]:
    """Say which labels of shape (frame, label) hold nothing to learn: constant or masked."""
    problems = []
    for name, column, mask in zip(names, labels.T, masks.T, strict=True):
        valid = column[mask]
        if valid.size == 0:
            problems.append(f"label `{name}` is masked in every frame")
        elif valid.min() == valid.max():
            problems.append(f"label `{name}` never varies, got {valid[0]:g} in every valid frame")
    return problems

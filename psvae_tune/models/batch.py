"""Inputs and outputs of a model.

Axes are named frame, channel, height, width, label and latent throughout.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from psvae_tune.errors import DataError

ArrayLike = Tensor | NDArray[Any]
Ramp = float | Tensor
"""0 to 1; a scalar on the device of a model if it changes between replays of a step."""


@dataclass(frozen=True, slots=True)
class DataShape:
    """Sizes of the data that a model is built for."""

    n_channels: int
    height: int
    width: int
    n_labels: int = 0
    n_sessions: int = 1


@dataclass(frozen=True, slots=True)
class Batch:
    """One clip, or one clip from each of several sessions, as tensors on one device."""

    frames: Tensor
    """(frame, channel, height, width) in [0, 1]; as it is stored, also bytes."""
    labels: Tensor | None = None
    """(frame, label), standardised."""
    label_mask: Tensor | None = None
    """(frame, label), 0 or 1; None where every entry is valid."""
    labels_sc: Tensor | None = None
    """(frame, label) in pixels: all x, then all y."""
    frame_mask: Tensor | None = None
    """(frame, channel, height, width), 0 or 1; None where every pixel is valid."""
    session_index: Tensor | None = None
    """(frame,) int64; None for a single session."""

    @property
    def n_valid_pixels(self) -> Tensor:
        """Number of pixels that the mask leaves, a scalar on the device of the batch."""
        return _count_valid(self.frames, self.frame_mask)

    @property
    def n_valid_labels(self) -> Tensor:
        """Number of entries of the labels that the mask leaves, a scalar as well."""
        if self.labels is None:
            return self.frames.new_zeros(())
        return _count_valid(self.labels, self.label_mask)

    def as_floats(self) -> Self:
        """Return a batch that is stored in bytes as models take it: frames in [0, 1], and floats.

        Bytes are as many as a quarter of the floats, so a recording is kept and copied as bytes.
        """
        masks = {
            name: mask.float()
            for name in ("label_mask", "frame_mask")
            if (mask := getattr(self, name)) is not None
        }
        is_bytes = self.frames.dtype == torch.uint8
        frames = self.frames.float().div_(255) if is_bytes else self.frames
        return replace(self, frames=frames, **masks)

    def frame(self, row: int) -> Self:
        """Return one frame as a batch."""
        return self.select(slice(row, row + 1))

    def select(self, rows: slice) -> Self:
        """Return some of the frames as a batch."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return replace(self, **{k: v[rows] for k, v in fields.items() if v is not None})


def expand_sessions(session_index: ArrayLike | int, n_frames: int, n_sessions: int) -> Tensor:
    """Return the session of every frame, (frame,) int64.

    Parameters
    ----------
    session_index
        (frame,), or one number for all frames.
    n_frames, n_sessions
        Number of frames, and of the sessions that there are.

    Raises
    ------
    DataError
        If there is no such session.
    """
    given = torch.as_tensor(session_index)
    sessions = given.to(torch.int64).expand(n_frames)
    if n_frames:
        first, last = int(sessions.min()), int(sessions.max())
        if first < 0 or last >= n_sessions:
            raise DataError(
                "session_index", f"must be 0 to {n_sessions - 1}, got {first} to {last}"
            )
    return sessions


def _count_valid(values: Tensor, mask: Tensor | None) -> Tensor:
    # Filled where it is needed: a number that is copied to a GPU would wait for it.
    return values.new_full((), values.numel()) if mask is None else mask.sum()


@dataclass(frozen=True, slots=True)
class Prediction:
    """Output of a model for the frames of a batch."""

    frames: Tensor
    """(frame, channel, height, width)."""
    mean: Tensor
    """(frame, latent): posterior means, or the latents of a deterministic model."""
    logvar: Tensor | None = None
    """(frame, latent): log variance of the posterior; None for a deterministic model."""
    labels: Tensor | None = None
    """(frame, label), standardised; None where the model predicts no labels."""


class Term(NamedTuple):
    """One row of an objective."""

    weight: float | Tensor
    value: Tensor
    is_annealed: bool = False
    """Whether the weight grows to its full size while the model is annealed."""


@dataclass(frozen=True, slots=True)
class Terms:
    """An objective on one batch: the terms with their weights, and the prediction."""

    terms: Mapping[str, Term]
    prediction: Prediction

    def anneal(self, ramp: Ramp) -> Self:
        """Return them with the annealed weights times a factor."""
        terms = {
            name: term._replace(weight=ramp * term.weight) if term.is_annealed else term
            for name, term in self.terms.items()
        }
        return replace(self, terms=terms)

    def scale(self, factors: Mapping[str, Ramp]) -> Self:
        """Return them with the weights of some terms times factors, by their names."""
        terms = {
            name: term._replace(weight=factors[name] * term.weight) if name in factors else term
            for name, term in self.terms.items()
        }
        return replace(self, terms=terms)

    @property
    def loss(self) -> Tensor:
        """Weighted sum of the terms."""
        first, *rest = (term.weight * term.value for term in self.terms.values())
        return sum(rest, start=first)

    def values(self) -> dict[str, Tensor]:
        """Return the unweighted value of every term."""
        return {name: term.value.detach() for name, term in self.terms.items()}

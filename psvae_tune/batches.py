"""From recordings to the batches that a model is trained and scored on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psvae_tune.config import TrialConfig
from psvae_tune.data.splits import split_clips, take_fraction
from psvae_tune.data.standardize import LabelScaler, fit_label_scaler
from psvae_tune.data.types import Frames, Session, SplitName, Splits
from psvae_tune.models.types import Batch, DataShape


@dataclass(frozen=True, slots=True)
class PreparedSession:
    """A session with its clips split and its labels scaled."""

    session: Session
    splits: Splits
    scaler: LabelScaler | None
    labels: np.ndarray[Any, np.dtype[np.float32]] | None
    """(frame, label), scaled."""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """All sessions of a trial, ready to be cut into batches."""

    sessions: tuple[PreparedSession, ...]
    n_sessions_per_batch: int = 1

    @property
    def shape(self) -> DataShape:
        """The sizes that a model must be built for."""
        header = self.sessions[0].session.header
        return DataShape(*header.frame_shape, header.n_labels, len(self.sessions))

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, empty without labels."""
        return self.sessions[0].session.header.label_names

    @property
    def label_scaling(self) -> dict[str, Any] | None:
        """What takes scaled labels back to the user's units, a row a session; None without."""
        scalers = [item.scaler.to_dict() for item in self.sessions if item.scaler is not None]
        if not scalers:
            return None
        return {name: [scaler[name] for scaler in scalers] for name in ("mean", "std")}

    def clips(self, split: SplitName) -> list[tuple[int, int]]:
        """Return the (session, clip) pairs of a split in order."""
        return [(i, clip) for i, item in enumerate(self.sessions) for clip in item.splits[split]]

    def training_batches(self, rng: np.random.Generator) -> list[list[tuple[int, int]]]:
        """Return the clips of every batch of one epoch, in an order drawn from ``rng``.

        A batch is one clip, or one clip from each of ``n_sessions_per_batch`` sessions. With
        sessions of unequal numbers of clips, those with the most clips left come first, so
        that as many batches as possible hold clips of different sessions.
        """
        left = [list(rng.permutation(item.splits.train)) for item in self.sessions]
        batches = []
        while any(left):
            order = rng.permutation(len(left))
            fullest = sorted(order, key=lambda i: -len(left[i]))[: self.n_sessions_per_batch]
            batches.append([(int(i), int(left[i].pop())) for i in sorted(fullest) if left[i]])
        return [batches[i] for i in rng.permutation(len(batches))]

    def batch(self, clips: Sequence[tuple[int, int]], device: torch.device) -> Batch:
        """Return clips, one after another, as one batch on a device."""
        parts = [self._clip(session, clip, device) for session, clip in clips]
        return parts[0] if len(parts) == 1 else _concatenate(parts)

    def _clip(self, index: int, clip: int, device: torch.device) -> Batch:
        item = self.sessions[index]
        session, frames = item.session, item.session.clip(clip)

        def tensor(array: Frames | None) -> Tensor | None:
            if array is None:
                return None
            # torch.tensor copies: the arrays may be read-only memory shared with other trials.
            copied = torch.tensor(array[frames])
            if device.type == "cuda":
                # From pinned memory a copy waits for no kernel, so that this process is ahead.
                copied = copied.pin_memory()
            return copied.to(device, non_blocking=True)

        images = tensor(session.frames)
        assert images is not None
        has_masks = session.header.has_label_masks
        label_mask = tensor(session.label_masks) if has_masks else None
        frame_mask = tensor(session.frame_masks)
        n_frames = len(images)
        return Batch(
            frames=images.float().div_(255) if images.dtype == torch.uint8 else images,
            labels=tensor(item.labels),
            label_mask=None if label_mask is None else label_mask.float(),
            labels_sc=tensor(session.labels_sc),
            frame_mask=None if frame_mask is None else frame_mask.float(),
            session_index=(
                torch.full((n_frames,), index, device=device) if len(self.sessions) > 1 else None
            ),
        )

    def iterate(self, split: SplitName, device: torch.device) -> Iterator[Batch]:
        """Yield a split clip by clip, in order."""
        for session, clip in self.clips(split):
            yield self._clip(session, clip, device)


def _concatenate(parts: Sequence[Batch]) -> Batch:
    def join(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        if all(tensor is None for tensor in tensors):
            return None
        if name.endswith("mask"):
            # A session without masks is valid everywhere, also beside one with masks.
            shaped = "labels" if name == "label_mask" else "frames"
            tensors = [
                torch.ones_like(getattr(part, shaped)) if tensor is None else tensor
                for part, tensor in zip(parts, tensors, strict=True)
            ]
        return torch.cat(tensors)

    return Batch(**{name: join(name) for name in Batch.__slots__})  # type: ignore[arg-type]


def prepare_data(sessions: Sequence[Session], config: TrialConfig) -> PreparedData:
    """Split the clips of every session and scale its labels.

    Parameters
    ----------
    sessions
        Recordings of one frame shape and one set of labels.
    config
        Gives the splits, the fraction of the training clips, the scaling and their seeds.

    Raises
    ------
    DataError
        If a session has too few clips, or a label that cannot be scaled.
    """
    prepared = []
    for session in sessions:
        data, training = config.data, config.training
        splits = split_clips(session.header.n_clips, data.trial_splits, data.rng_seed_data)
        train = take_fraction(splits.train, training.train_frac, data.rng_seed_data)
        splits = Splits(train, splits.val, splits.test)
        scaler = labels = None
        if session.labels is not None and session.label_masks is not None:
            scaler = fit_label_scaler(session, train, data.label_scaling)
            labels = scaler.transform(session.labels)
            # What stands under the mask must not reach a model, not even as a distant outlier.
            labels[~session.label_masks] = 0
        prepared.append(PreparedSession(session, splits, scaler, labels))
    return PreparedData(tuple(prepared), getattr(config.model, "n_sessions_per_batch", 1))

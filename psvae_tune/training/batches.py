"""Make batches of recordings, on which a model is trained and scored."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from psvae_tune.config.trial import TrialConfig
from psvae_tune.data.hidden_labels import HiddenLabels, hide_labels, scale_hidden
from psvae_tune.data.label_scaler import LabelScaler, fit_label_scaler
from psvae_tune.data.recorded_view import to_plain
from psvae_tune.data.session import Frames, Session, SplitName, Splits
from psvae_tune.data.splits import split_clips, take_fraction
from psvae_tune.models.batch import Batch, DataShape

GPU_SHARE = 1 / 8
"""Share of a GPU's memory that one trial may fill with recordings.

With the four trials that at most share a GPU, recordings fill half of it.
"""


@dataclass(frozen=True, slots=True)
class PreparedSession:
    """A session with its clips split and its labels standardised."""

    session: Session
    splits: Splits
    labels: np.ndarray[Any, np.dtype[np.float32]] | None
    """(frame, label), standardised."""
    hidden: HiddenLabels | None = None
    """Labels that the model does not see."""
    resident: Mapping[str, Tensor] | None = None
    """`arrays` on the device of the model; None if each clip is copied there when it is needed."""

    @property
    def arrays(self) -> dict[str, Frames]:
        """Arrays with a row for each frame, under the names of the session's fields."""
        session = self.session
        found = {
            "frames": session.frames,
            "labels": self.labels,
            "label_masks": session.label_masks if session.header.has_label_masks else None,
            "labels_sc": session.labels_sc,
            "frame_masks": session.frame_masks,
        }
        return {name: array for name, array in found.items() if array is not None}


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Sessions of a trial, ready to be cut into batches."""

    sessions: tuple[PreparedSession, ...]
    label_scaler: LabelScaler | None
    """The units of the labels, session by session; None without labels."""
    n_sessions_per_batch: int = 1

    @property
    def shape(self) -> DataShape:
        """Sizes that a model must be built for."""
        header = self.sessions[0].session.header
        return DataShape(*header.frame_shape, header.n_labels, len(self.sessions))

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, empty without labels."""
        return self.sessions[0].session.header.label_names

    def describe(self) -> dict[str, Any]:
        """Return what is kept with a model: the names of the labels, and the views of videos."""
        views = [to_plain(item.session.header.views) for item in self.sessions]
        return {"label_names": list(self.label_names), "views": views}

    def clips(self, split: SplitName) -> list[tuple[int, int]]:
        """Return the (session, clip) pairs of a split in order."""
        return [(i, clip) for i, item in enumerate(self.sessions) for clip in item.splits[split]]

    def clip_lengths(self, places: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        """Return the number of frames of each (session, clip) pair."""
        headers = [item.session.header for item in self.sessions]
        return tuple(headers[session].clip_lengths[clip] for session, clip in places)

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
        return self._load(clips, device).as_floats()

    def _load(self, clips: Sequence[tuple[int, int]], device: torch.device) -> Batch:
        """Return clips as they are stored; they may be views of what `resident` keeps."""
        parts = [self._clip(session, clip, device) for session, clip in clips]
        return parts[0] if len(parts) == 1 else _concatenate(parts)

    def _clip(self, index: int, clip: int, device: torch.device) -> Batch:
        item = self.sessions[index]
        rows = item.session.clip(clip)
        if item.resident is None:
            found = {name: _to_device(array[rows], device) for name, array in item.arrays.items()}
        else:
            found = {name: tensor[rows] for name, tensor in item.resident.items()}
        n_frames = rows.stop - rows.start
        several = len(self.sessions) > 1
        return Batch(
            frames=found["frames"],
            labels=found.get("labels"),
            label_mask=found.get("label_masks"),
            labels_sc=found.get("labels_sc"),
            frame_mask=found.get("frame_masks"),
            session_index=torch.full((n_frames,), index, device=device) if several else None,
        )

    def load_batches(
        self, batches: Iterable[Sequence[tuple[int, int]]], device: torch.device
    ) -> Iterator[Batch]:
        """Yield batches on a device as they are stored; see `Batch.as_floats`.

        Parameters
        ----------
        batches
            The (session, clip) pairs of each.
        device
            Device that the batches are put on.

        Raises
        ------
        DataError
            If a recording that stays in its file cannot be read, or was changed.
        """
        calls = (partial(self._load, clips, device) for clips in batches)
        # On a CPU, reading ahead gains nothing. It also fragments memory, because one thread
        # allocates and another one frees: a trial with a recording larger than memory grew by
        # the size of its validation split.
        if device.type == "cpu" or all(item.resident is not None for item in self.sessions):
            yield from (call() for call in calls)
        else:
            yield from prefetch(calls)

    def iterate(self, split: SplitName, device: torch.device) -> Iterator[Batch]:
        """Yield a split clip by clip, in order."""
        for batch in self.load_batches([[place] for place in self.clips(split)], device):
            yield batch.as_floats()


T = TypeVar("T")


def prefetch(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Yield the results of calls in order; while one result is used, the next call runs.

    An exception of a call is raised in the place of its result.
    """
    with ThreadPoolExecutor(1) as beside:
        coming = None
        for call in calls:
            following = beside.submit(call)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()


def _to_device(array: Any, device: torch.device) -> Tensor:
    """Return a copy on a device."""
    # torch.tensor copies: the arrays may be read-only memory shared with other trials.
    copied = torch.tensor(array)
    if device.type == "cuda":
        # A copy from pinned memory waits for no kernel, so this process can run ahead.
        copied = copied.pin_memory()
    return copied.to(device, non_blocking=True)


def device_cache_bytes(device: torch.device) -> int:
    """Return how many bytes of recordings may stay on a device; 0 for the CPU."""
    if device.type != "cuda":
        return 0
    return int(GPU_SHARE * torch.cuda.get_device_properties(device).total_memory)


def cache_on_device(data: PreparedData, device: torch.device, room: int) -> PreparedData:
    """Return data with all recordings on a device, or unchanged data if they are too large.

    Parameters
    ----------
    data
        Data whose recordings lie in the memory of the host.
    device
        Device of the model.
    room
        Bytes that frames and their masks may take on the device, as from `device_cache_bytes`.

    Raises
    ------
    DataError
        If a recording that stays in its file cannot be read, or was changed.
    """
    headers = [item.session.header for item in data.sessions]
    if sum(header.n_frames * header.frame_bytes for header in headers) > room:
        return data
    try:
        copies = [_copy(item, device) for item in data.sessions]
    except torch.OutOfMemoryError:  # others fill the GPU
        return data
    return replace(
        data,
        sessions=tuple(
            replace(item, resident=copy) for item, copy in zip(data.sessions, copies, strict=True)
        ),
    )


def _copy(item: PreparedSession, device: torch.device) -> dict[str, Tensor]:
    """Return all arrays of a session on a device; they are copied clip by clip."""
    clips = [item.session.clip(clip) for clip in range(item.session.header.n_clips)]
    copies = {}
    for name, array in item.arrays.items():
        dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
        copies[name] = torch.empty(array.shape, dtype=dtype, device=device)
        for rows in clips:
            copies[name][rows] = _to_device(array[rows], device)
    return copies


def _concatenate(parts: Sequence[Batch]) -> Batch:
    if len({part.frames.dtype for part in parts}) > 1:
        parts = [part.as_floats() for part in parts]

    def join(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        if all(tensor is None for tensor in tensors):
            return None
        if name.endswith("mask"):
            # A session without masks is valid everywhere, even if another one has masks.
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
        Settings of the splits, the fraction of the training clips, the scaling and their seeds.

    Raises
    ------
    DataError
        If a session has too few clips, or a label that cannot be scaled.
    ConfigError
        If a label that is to be hidden does not exist.
    """
    prepared, scalers = [], []
    for whole in sessions:
        data, training = config.data, config.training
        session, hidden = hide_labels(whole, data.hidden_labels)
        splits = split_clips(session.header.n_clips, data.trial_splits, data.rng_seed_data)
        train = take_fraction(splits.train, training.train_frac, data.rng_seed_data)
        splits = Splits(train, splits.val, splits.test)
        labels = None
        if session.labels is not None and session.label_masks is not None:
            scaler = fit_label_scaler(session, train, data.label_scaling)
            scalers.append(scaler)
            labels = scaler.transform(session.labels)
            # No value under the mask must reach a model, not even as a distant outlier.
            labels[~session.label_masks] = 0
        prepared.append(
            PreparedSession(session, splits, labels, scale_hidden(session, hidden, train))
        )
    label_scaler = LabelScaler.join(scalers) if scalers else None
    return PreparedData(tuple(prepared), label_scaler, config.model.n_sessions_in_batch)

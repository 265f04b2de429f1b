"""Unsupervised latents over enough frames to tell how far they depend on each other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from psvae_tune.data.session import SplitName
from psvae_tune.metrics.arrays import Array
from psvae_tune.metrics.latent_dependence import find_active, gaussian_tc, latent_correlation
from psvae_tune.metrics.sampling_error import Clips, frames_of
from psvae_tune.models.encoding import Encoding, encode
from psvae_tune.models.model import Model
from psvae_tune.training.batch_calls import BatchCalls
from psvae_tune.training.batches import PreparedData

N_LATENT_CLIPS = 64
"""Number of clips up to which training clips are added to a split that has fewer."""
LATENT_STEP = 4
"""Distance in frames between those looked at there; frames that are nearer tell little new."""


@dataclass(frozen=True, slots=True)
class UnsupervisedLatents:
    """Unsupervised latents of evenly spaced frames of some clips, one clip after another."""

    mean: Array
    """(frame, latent)."""
    logvar: Array | None
    """(frame, latent); None for a model without a posterior."""
    clip_lengths: tuple[int, ...]

    def select(self, clips: Clips) -> "UnsupervisedLatents":
        """Return the latents of clips, which may repeat."""
        rows = frames_of(clips, self.clip_lengths)
        logvar = None if self.logvar is None else self.logvar[rows]
        return UnsupervisedLatents(
            self.mean[rows], logvar, tuple(self.clip_lengths[clip] for clip in clips)
        )

    @property
    def is_active(self) -> NDArray[np.bool_]:
        """(latent,): whether it carries information, which is not known without a posterior."""
        if self.logvar is None:
            return np.ones(self.mean.shape[1], dtype=bool)
        return find_active(self.mean, self.logvar)

    @property
    def active(self) -> Array:
        """(frame, latent): the means of those that are active."""
        return self.mean[:, self.is_active]


def pick_clips_beside(data: PreparedData, split: SplitName) -> Clips:
    """Return the training clips in which latents are looked at beside those of a split.

    They are evenly spread, and bring a split of fewer clips to `N_LATENT_CLIPS`.

    Returns
    -------
    NDArray
        Indices into the training clips.
    """
    n_train = len(data.clips("train")) if split != "train" else 0
    n_clips = min(n_train, max(0, N_LATENT_CLIPS - len(data.clips(split))))
    return np.linspace(0, n_train - 1, n_clips).round().astype(np.intp)


def gather_latents(
    model: Model,
    calls: BatchCalls,
    data: PreparedData,
    split: SplitName,
    device: torch.device,
    seen: Encoding,
    train: Encoding | None,
) -> UnsupervisedLatents:
    """Return the unsupervised latents of a split and of training clips, in this order.

    Independent movements correlate by chance over a few clips. So training clips, evenly spread,
    are looked at as well if the split has fewer clips than `N_LATENT_CLIPS`, as many as it lacks.
    Every `LATENT_STEP`-th frame counts.

    Parameters
    ----------
    model, calls, data, split, device
        As for `evaluate`.
    seen
        The frames of the split as the model encodes them.
    train
        All training frames as the model encodes them, if that is known already.
    """
    own, clips = data.clips(split), data.clips("train")
    picked = pick_clips_beside(data, split)
    beside = [clips[i] for i in picked]
    parts = [_thin(seen, range(len(own)), data.clip_lengths(own))]
    if beside and train is not None:
        parts.append(_thin(train, picked, data.clip_lengths(clips)))
    elif beside:
        batches = data.load_batches([[place] for place in beside], device)
        thinned = (batch.select(slice(None, None, LATENT_STEP)) for batch in batches)
        parts.append(encode(model, thinned, calls.encode))
    columns = model.partition.unsupervised
    logvars = [part.logvar[:, columns] for part in parts if part.logvar is not None]
    return UnsupervisedLatents(
        np.concatenate([part.latents[:, columns] for part in parts]),
        np.concatenate(logvars) if logvars else None,
        tuple(-(-n // LATENT_STEP) for n in data.clip_lengths(own + beside)),
    )


def score_latents(latents: UnsupervisedLatents) -> dict[str, float | None]:
    """Return how many unsupervised latents are active, and how far these depend on each other."""
    active = latents.active
    return {
        "latent_correlation": latent_correlation(active),
        "gaussian_tc": gaussian_tc(active),
        "active_units": None if latents.logvar is None else active.shape[1],
    }


def _thin(encoding: Encoding, clips: Iterable[int], clip_lengths: Sequence[int]) -> Encoding:
    """Return every `LATENT_STEP`-th frame of some clips."""
    rows = np.concatenate([frames_of([i], clip_lengths)[::LATENT_STEP] for i in clips])
    logvar = None if encoding.logvar is None else encoding.logvar[rows]
    return Encoding(encoding.latents[rows], logvar, None)

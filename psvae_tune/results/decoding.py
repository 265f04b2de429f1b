"""Frames decoded from latents that are changed or drawn, for `FittedModel`."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from psvae_tune.errors import ConfigError, DataError, nearest
from psvae_tune.models.encoding import Floats, join
from psvae_tune.models.latent_edits import with_background, with_labels
from psvae_tune.models.model import Model
from psvae_tune.models.model_file import SavedModel
from psvae_tune.results.recording_frames import RecordingFrames

DEFAULT_STEPS = np.linspace(-2, 2, 5, dtype=np.float32)
"""Values of a latent in a traversal, in standard deviations."""


@torch.inference_mode()
def render(
    model: Model,
    opened: RecordingFrames,
    session_index: int,
    change: Callable[[Tensor, Tensor | None], Tensor],
    labels: Floats | None = None,
    decoded_index: int | None = None,
) -> Floats:
    """Decode all frames of a recording from their latents, once these are changed.

    Parameters
    ----------
    model
        A model in evaluation mode.
    opened, session_index
        The recording, and the session of the fit that it belongs to.
    change
        Makes new latents of the latents, (frame, latent), and the standardised labels of frames.
    labels
        (frame, label), standardised.
    decoded_index
        The session of the fit to decode for, where it is another one.

    Returns
    -------
    NDArray
        (frame, channel, height, width).

    Raises
    ------
    DataError
        If the recording cannot be read, or does not fit the model.
    """
    parts = []
    for batch in opened.iter_batches(model, session_index, labels):
        q = model.encode(batch.frames, batch.labels_sc, batch.session_index)
        z = change(q.mean, batch.labels)
        sessions = batch.session_index
        if decoded_index is not None:
            sessions = torch.full((len(z),), decoded_index, device=z.device)
        parts.append(model.decode(z, batch.labels, sessions, like=q).cpu())
    found = join(parts)
    if found is None:
        raise DataError("frames", "must be at least one, got none")
    return found


@torch.inference_mode()
def draw_frames(
    saved: SavedModel,
    n_frames: int,
    seed: int,
    labels: ArrayLike | None,
    like: Floats | None,
    session_index: int,
) -> Floats:
    """Decode latents that are drawn from the prior; see `FittedModel.sample`.

    Parameters
    ----------
    like
        (frame, latent) of frames of the session, from which background latents are drawn.
    """
    model = saved.model
    if not model.is_variational:
        raise ConfigError("model", f"`{model.config.model_class}` has no prior to draw from")
    rng = torch.Generator().manual_seed(seed)
    weight = model.net.mean.weight
    z = torch.randn(n_frames, model.partition.n_latents, generator=rng).to(weight)
    if model.partition.n_background:
        if like is None:
            raise DataError("like", "background latents are drawn from frames, got none")
        chosen = torch.randint(len(like), (n_frames,), generator=rng).numpy()
        background = torch.from_numpy(like[chosen][:, model.partition.background])
        z = with_background(model, z, background.to(weight))
    scaled = None
    if labels is not None:
        given = standardise_labels(saved, labels, n_frames, session_index)
        scaled = torch.from_numpy(given).to(weight)
        if not model.is_conditional:
            z = with_labels(model, z, scaled)
    sessions = torch.full((n_frames,), session_index, device=z.device)
    return model.decode(z, scaled, sessions).cpu().numpy()


def standardise_labels(
    saved: SavedModel, labels: ArrayLike, n_frames: int, session_index: int
) -> Floats:
    """Return labels in the user's units, (frame, label), as the model knows them.

    Raises
    ------
    DataError
        If they are of another shape, or are infinite; NaN is left to the caller.
    """
    try:
        given = np.asarray(labels, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("labels", f"must be numbers, got {labels!r:.80}") from error
    expected = (n_frames, saved.model.shape.n_labels)
    if given.shape != expected:
        raise DataError("labels", f"must be {expected} (frame, label), got {given.shape}")
    if np.isinf(given).any():
        raise DataError("labels", "must be finite or NaN, got infinity")
    return saved.label_scaler.transform(given, session_index)


def condition_labels(
    saved: SavedModel, opened: RecordingFrames, labels: ArrayLike | None, session_index: int
) -> Floats | None:
    """Return the labels that frames are decoded with, (frame, label), standardised.

    Parameters
    ----------
    saved
        The model.
    opened
        The frames, whose recorded labels count where none are given.
    labels
        (frame, label) in the user's units; None for those of the recording.
    session_index
        The session of the fit that the frames belong to.

    Returns
    -------
    Floats or None
        None if the model does not decode with labels, or nothing tells them.

    Raises
    ------
    ConfigError
        If labels are given to a model that does not decode with them.
    DataError
        As by `standardise_labels`.
    """
    if labels is not None and not saved.model.is_conditional:
        name = saved.model.config.model_class
        raise ConfigError("labels", f"`{name}` decodes without them", "see set_labels")
    if labels is None and saved.model.is_conditional:
        labels = opened.labels
    if labels is None:
        return None
    # What the tracker lost is 0, the mean, where the model is fitted, too.
    return np.nan_to_num(standardise_labels(saved, labels, opened.n_frames, session_index), nan=0)


def check_steps(values: ArrayLike) -> Floats:
    """Return the values of a traversal as an array.

    Raises
    ------
    DataError
        If they are not finite numbers, one after another.
    """
    try:
        steps = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        steps = np.empty(0, np.float32)
    if steps.ndim != 1 or not steps.size or not np.isfinite(steps).all():
        raise DataError("values", f"must be finite numbers in a row, got {values!r:.80}")
    return steps


@torch.inference_mode()
def label_steps(
    saved: SavedModel, column: int, values: ArrayLike | None, session_index: int
) -> Floats:
    """Return the values of a supervised latent that read out as values of its label.

    Parameters
    ----------
    saved
        The model.
    column
        The label.
    values
        (value,) in the user's units; None for `DEFAULT_STEPS` around the mean of the label.
    session_index
        The session of the fit whose units are used.
    """
    steps = DEFAULT_STEPS if values is None else check_steps(values)
    labels = np.zeros((len(steps), saved.model.shape.n_labels), np.float32)
    labels[:, column] = steps
    if values is not None:
        labels = saved.label_scaler.transform(labels, session_index)
    given = torch.from_numpy(labels).to(saved.model.net.mean.weight)
    return saved.model.latents_for_labels(given)[:, column].cpu().numpy()


def find_latent(names: Sequence[str], latent: str | int) -> int:
    """Return the column of a latent that is given by its name or its column.

    Raises
    ------
    ConfigError
        If there is no such latent; it names the nearest one.
    """
    if isinstance(latent, str):
        if latent in names:
            return names.index(latent)
        near = nearest(latent, names)
        hint = f"did you mean {near!r}?" if near else f"the latents are {', '.join(names)}"
        raise ConfigError("latent", f"the model has none of this name, got {latent!r}", hint)
    if not 0 <= latent < len(names):
        raise ConfigError("latent", f"must be from 0 to {len(names) - 1}, got {latent}")
    return int(latent)

"""The files that a finished trial leaves beside its weights.

::

    figures/     curves.png  labels.png  reconstructions.png  traversals.png
    movies/      traversals.mp4  reconstructions.mp4
    latents/     session_0.h5  session_0.csv  session_0.parquet, one of each a session
    comparison/  traversals.json  strip_0.png …  bases.npz: traversals around base frames that
                 all trials of a study share, for the report
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from psvae_tune.models.model import Model
from psvae_tune.results.figures import movies
from psvae_tune.results.figures.images import COMPARISON, to_tile
from psvae_tune.results.figures.latent_words import describe_latents, describe_sessions
from psvae_tune.results.figures.movies import MovieFormat, encode_movie, encode_strip
from psvae_tune.results.figures.style import to_png
from psvae_tune.results.figures.traversals import (
    Traversals,
    choose_bases,
    choose_common_bases,
    latent_values,
    traverse_places,
)
from psvae_tune.results.figures.trial_figures import (
    History,
    LabelTrace,
    draw_curves,
    draw_labels,
    draw_reconstructions,
    draw_traversals,
)
from psvae_tune.results.prediction_files import FORMATS
from psvae_tune.results.predictions import Predictions, predict_sessions
from psvae_tune.training.batches import PreparedData

STRIP_HEIGHT = 64  # pixels of a tile; more would make the report too large
STRIP_VALUES = 7  # of a latent in a report, which plays them
_N_SWEEP = 12  # values of a latent in the movie
_N_SHOWN = 6  # frames in the figure of reconstructions
_N_MOVIE_FRAMES = 150


@dataclass(frozen=True, slots=True)
class FinishedTrial:
    """A fitted model, its data and the record of its fit."""

    model: Model
    """The model, with the weights of the best epoch."""
    data: PreparedData
    device: torch.device
    metrics: Mapping[str, float]
    history: History
    best_epoch: int
    n_anneal_epochs: int


def make_files(
    trial: FinishedTrial, movie_format: MovieFormat
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the path of every file among the artifacts, and a function that makes its contents.

    The caller calls the function, so that a file which cannot be made costs no other file.
    """
    model, data, device = trial.model, trial.data, trial.device
    history = {key: points for key, points in trial.history.items() if len(points) > 1}
    if history:
        curves = partial(draw_curves, history, trial.best_epoch, trial.n_anneal_epochs)
        yield "figures/curves.png", lambda: to_png(curves())
    predictions = predict_sessions(model, data, device)
    for index, item in enumerate(predictions):
        for suffix, make in FORMATS.items():
            yield f"latents/session_{index}{suffix}", partial(make, item)
    trace = _label_trace(predictions, data, trial.metrics)
    if trace is not None:
        yield "figures/labels.png", lambda: to_png(draw_labels(trace))
    yield from _reconstruction_files(trial, movie_format)
    places = choose_bases(predictions)
    traversed = traverse_places(model, data, places, latent_values(predictions, data), device)
    yield "figures/traversals.png", partial(draw_traversals, traversed)
    if movie_format != "none":
        sweep_values = latent_values(predictions, data, _N_SWEEP)
        sweep = traverse_places(model, data, places[:1], sweep_values, device)
        pictures = movies.traversal_pictures(sweep)
        yield (
            f"movies/traversals.{movie_format}",
            partial(encode_movie, pictures, movie_format),
        )
    common = choose_common_bases([item.session for item in data.sessions])
    values = latent_values(predictions, data, STRIP_VALUES)
    shared = traverse_places(model, data, common, values, device)
    yield from _comparison_files(shared)
    latents = [item.latents for item in predictions]
    yield (
        f"{COMPARISON}/words.json",
        lambda: json.dumps(describe_latents(latents, shared.n_supervised, data)).encode(),
    )
    if len(data.sessions) > 1:
        yield (
            f"{COMPARISON}/sessions.json",
            lambda: json.dumps(describe_sessions(latents, model.partition, data)).encode(),
        )


def _comparison_files(shared: Traversals) -> Iterator[tuple[str, Callable[[], bytes]]]:
    description = {
        "names": shared.names,
        "n_supervised": shared.n_supervised,
        "values": shared.values.round(4).tolist(),
        "places": shared.places,
        "n_bases": len(shared.base),
    }
    yield f"{COMPARISON}/traversals.json", lambda: json.dumps(description).encode()
    height = min(STRIP_HEIGHT, to_tile(shared.base[0]).shape[0])
    for base in range(len(shared.base)):
        path = f"{COMPARISON}/strip_{base}.png"
        yield path, partial(encode_strip, shared, base, height)

    def dump() -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, frames=shared.base)
        return buffer.getvalue()

    yield f"{COMPARISON}/bases.npz", dump


def _label_trace(
    predictions: tuple[Predictions, ...], data: PreparedData, metrics: Mapping[str, float]
) -> LabelTrace | None:
    """Return the labels of the validation split; None if the model predicts none."""
    labels, labels_hat, masks, starts = [], [], [], []
    n_frames = 0
    for session, clip in data.clips("val"):
        item = data.sessions[session].session
        hat = predictions[session].labels_hat
        if hat is None or item.labels is None or item.label_masks is None:
            return None
        rows = item.clip(clip)
        labels.append(item.labels[rows])
        labels_hat.append(hat[rows])
        masks.append(item.label_masks[rows])
        starts.append(n_frames)
        n_frames += len(labels[-1])
    prefix = "val/label_r2/"
    return LabelTrace(
        names=data.label_names,
        labels=np.concatenate(labels),
        labels_hat=np.concatenate(labels_hat),
        masks=np.concatenate(masks),
        r2={k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)},
        clip_starts=tuple(starts),
    )


@torch.inference_mode()
def _reconstruction_files(
    trial: FinishedTrial, movie_format: MovieFormat
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    session, clip = trial.data.clips("val")[0]
    batch = trial.data.batch([(session, clip)], trial.device)
    hat = trial.model.predict(batch.frames, batch.labels, batch.labels_sc, batch.session_index)
    frames, frames_hat = batch.frames.cpu().numpy(), hat.frames.cpu().numpy()
    rows = np.linspace(0, len(frames) - 1, min(_N_SHOWN, len(frames))).astype(int)
    first = trial.data.sessions[session].session.clip(clip).start
    titles = [f"frame {first + row}" for row in rows]
    mse = trial.metrics["val/frame_mse"]
    yield (
        "figures/reconstructions.png",
        partial(draw_reconstructions, frames[rows], frames_hat[rows], titles, mse),
    )
    if movie_format != "none":
        limit = float(np.abs(frames[rows] - frames_hat[rows]).max())
        count = min(len(frames), _N_MOVIE_FRAMES)
        pictures = movies.reconstruction_pictures(frames[:count], frames_hat[:count], limit)
        yield (
            f"movies/reconstructions.{movie_format}",
            partial(encode_movie, pictures, movie_format),
        )

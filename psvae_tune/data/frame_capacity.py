"""Measure how many latents the training frames of recordings keep active."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psvae_tune.config.model import VariationalConfig
from psvae_tune.config.trial import TrialConfig
from psvae_tune.data.frame_sample import FrameSample, sample_files, sample_sessions
from psvae_tune.data.session import Session, SessionHeader
from psvae_tune.data.splits import split_clips, take_fraction
from psvae_tune.metrics.capacity import Capacity, measure_capacity


def measure_sessions(sessions: Sequence[Session], config: TrialConfig) -> Capacity:
    """Measure the training frames of recordings that have been read.

    Parameters
    ----------
    sessions
        The recordings.
    config
        Settings of a trial: its splits, and whether its model sees labels and sessions.

    Raises
    ------
    DataError
        If the frames have no capacity, or cannot be read; see `measure_capacity`.
    """
    clips = list(_list_training_clips([session.header for session in sessions], config))
    names = sessions[0].header.label_names
    return _measure_for(config, sample_sessions(sessions, clips), names)


def measure_files(headers: Sequence[SessionHeader], config: TrialConfig) -> Capacity:
    """Measure the training frames of recordings in their files; see `measure_sessions`."""
    clips = list(_list_training_clips(headers, config))
    return _measure_for(config, sample_files(headers, clips), headers[0].label_names)


def measure_recording(header: SessionHeader) -> Capacity:
    """Measure frames of all clips of a recording, for a model that sees its labels.

    Raises
    ------
    DataError
        As by `measure_sessions`.
    """
    sample = sample_files([header], [range(header.n_clips)])
    return _measure(sample, sees_labels=True, has_background=False)


def set_decoder_variance(config: TrialConfig, capacity: Capacity, n_labels: int) -> TrialConfig:
    """Return settings in which ``decoder_variance: auto`` has become a number.

    Parameters
    ----------
    config
        Settings of a trial.
    capacity
        Of its training frames.
    n_labels
        Number of labels of the recordings.
    """
    if not needs_decoder_variance(config):
        return config
    variance = capacity.choose_variance(config.count_unsupervised(n_labels))
    # As many digits as machines agree on, because it is part of a trial's identity.
    return config.with_params({"decoder_variance": float(f"{variance:.2g}")})


def needs_decoder_variance(config: TrialConfig) -> bool:
    """Return whether ``decoder_variance`` is still to be taken from the frames."""
    model = config.model
    return isinstance(model, VariationalConfig) and model.decoder_variance == "auto"


def _measure_for(config: TrialConfig, sample: FrameSample, label_names: Sequence[str]) -> Capacity:
    model = config.model
    if sample.labels is not None and sample.label_mask is not None:
        is_seen = ~np.isin(label_names, config.data.hidden_labels)
        sample = replace(
            sample, labels=sample.labels[:, is_seen], label_mask=sample.label_mask[:, is_seen]
        )
    has_background = model.count_background() > 0
    return _measure(sample, sees_labels=model.needs_labels, has_background=has_background)


def _measure(sample: FrameSample, *, sees_labels: bool, has_background: bool) -> Capacity:
    labels = None
    if sees_labels and sample.labels is not None and sample.label_mask is not None:
        labels = np.zeros(sample.labels.shape)
        for session in np.unique(sample.session_index):
            rows = sample.session_index == session
            labels[rows] = _standardise(sample.labels[rows], sample.label_mask[rows])
    return measure_capacity(
        sample.frames,
        sample.clips,
        labels,
        sample.frame_mask,
        sample.label_mask,
        sample.session_index if has_background else None,
    )


def _standardise(labels: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return labels with mean 0 and variance 1 where they are valid, 0 where not or constant."""
    counts = np.maximum(mask.sum(axis=0), 1)
    values = np.where(mask, labels, 0).astype(np.float64)
    centred = np.where(mask, values - values.sum(axis=0) / counts, 0)
    spread = np.sqrt((centred**2).sum(axis=0) / counts)
    varies = spread > 1e-10 * np.abs(values).max(axis=0, initial=0)
    return np.where(varies, centred / np.where(varies, spread, 1), 0)


def _list_training_clips(
    headers: Sequence[SessionHeader], config: TrialConfig
) -> Iterator[Sequence[int]]:
    data = config.data
    for header in headers:
        splits = split_clips(header.n_clips, data.trial_splits, data.rng_seed_data)
        yield take_fraction(splits.train, config.training.train_frac, data.rng_seed_data)

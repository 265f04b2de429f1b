"""Measure how many latents the training frames of recordings keep active."""

from collections.abc import Iterator, Sequence

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
    return _measure(sample_sessions(sessions, clips), config)


def measure_files(headers: Sequence[SessionHeader], config: TrialConfig) -> Capacity:
    """Measure the training frames of recordings in their files; see `measure_sessions`."""
    clips = list(_list_training_clips(headers, config))
    return _measure(sample_files(headers, clips), config)


def measure_recording(header: SessionHeader) -> Capacity:
    """Measure frames of all clips of a recording, for a model that sees its labels.

    Raises
    ------
    DataError
        As by `measure_sessions`.
    """
    sample = sample_files([header], [range(header.n_clips)])
    return measure_capacity(
        sample.frames, sample.clips, sample.labels, sample.frame_mask, sample.label_mask
    )


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
    variance = capacity.choose_variance(config.model.count_unsupervised(n_labels))
    # As many digits as machines agree on, because it is part of a trial's identity.
    return config.with_params({"decoder_variance": float(f"{variance:.2g}")})


def needs_decoder_variance(config: TrialConfig) -> bool:
    """Return whether ``decoder_variance`` is still to be taken from the frames."""
    model = config.model
    return isinstance(model, VariationalConfig) and model.decoder_variance == "auto"


def _measure(sample: FrameSample, config: TrialConfig) -> Capacity:
    model = config.model
    return measure_capacity(
        sample.frames,
        sample.clips,
        sample.labels if model.needs_labels else None,
        sample.frame_mask,
        sample.label_mask,
        sample.session_index if model.count_background() else None,
    )


def _list_training_clips(
    headers: Sequence[SessionHeader], config: TrialConfig
) -> Iterator[Sequence[int]]:
    data = config.data
    for header in headers:
        splits = split_clips(header.n_clips, data.trial_splits, data.rng_seed_data)
        yield take_fraction(splits.train, config.training.train_frac, data.rng_seed_data)

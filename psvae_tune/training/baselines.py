"""Score what no network is needed for, on the splits of a study: a fit should do better.

Frames are sampled, so that it takes seconds whatever the size of the recordings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from psvae_tune.config.hidden_labels import HIDDEN
from psvae_tune.config.trial import TrialConfig
from psvae_tune.data.frame_sample import FrameSample, sample_sessions
from psvae_tune.data.session import Session, SplitName
from psvae_tune.metrics.arrays import Floats
from psvae_tune.metrics.label_prediction import label_r2
from psvae_tune.metrics.ridge import predict_new
from psvae_tune.training.batches import PreparedData, prepare_data
from psvae_tune.training.evaluate import SplitTargets
from psvae_tune.training.readouts import fit_hidden

MAX_FEATURES = 200
"""Number of principal components of the pixels that labels are read from."""


@dataclass(frozen=True, slots=True, eq=False)
class _Frames:
    """Sampled frames of a split."""

    pixels: NDArray[np.float32]
    """(frame, pixel) in [0, 1]; the mean training frame where masked."""
    valid: NDArray[np.bool_] | None
    """(frame, pixel); None where all pixels count."""
    sample: FrameSample

    def mse(self, predicted: Floats) -> float:
        """Return the mean squared error over valid pixels."""
        error = (self.pixels - predicted) ** 2
        return float(error.mean() if self.valid is None else error[self.valid].mean())


def measure_baselines(
    sessions: Sequence[Session], config: TrialConfig, hidden_sets: Sequence[Sequence[str]] = ()
) -> dict[str, float]:
    """Return the scores of regressions and principal components on the validation split.

    All are fitted to training frames.

    Parameters
    ----------
    sessions
        The recordings of a study.
    config
        Settings that give its splits and numbers of latents.
    hidden_sets
        Labels that its trials do not see, one set after another.

    Returns
    -------
    dict
        ``frame_mse`` of the mean frame (``mean_``), of as many principal components as there are
        latents (``pca_``) and, with labels, of a regression of the frames on the labels and as
        many components of its residual as there are unsupervised latents (``residual_pca_``);
        ``ridge_label_r2`` of a ridge regression of the labels on the pixels, and that of each
        label after a slash; of labels that are hidden, how well components of what the others
        leave find them (``components_hidden_correlation`` and the like, as of a trial), averaged
        over the sets; ``n_unsupervised``, the number of unsupervised latents. A score that the
        recordings cannot give is left out.

    Raises
    ------
    DataError
        If a session has too few clips, or a label that cannot be scaled.
    ConfigError
        If a label that is to be hidden does not exist.
    """
    # One thread gives the same digits everywhere, and leaves Ray the others to start with.
    with threadpool_limits(1):
        found = dict(_measure(prepare_data(sessions, config), config))
        each: dict[str, list[float]] = {}
        for name, score in _score_hidden(sessions, config, hidden_sets):
            each.setdefault(f"components_{name}", []).append(score)
        return found | {name: float(np.mean(scores)) for name, scores in each.items()}


def _measure(data: PreparedData, config: TrialConfig) -> Iterator[tuple[str, float]]:
    train, val = _sample(data)
    n_latents = config.model.n_ae_latents
    n_unsupervised = config.model.count_unsupervised(data.shape.n_labels)
    yield "n_unsupervised", n_unsupervised
    if val.valid is not None and not val.valid.any():
        return
    mean = train.pixels.mean(axis=0)
    yield "mean_frame_mse", val.mse(mean)
    if not np.ptp(train.pixels, axis=0).any():
        return
    yield "pca_frame_mse", val.mse(_rebuild(train.pixels, val.pixels, n_latents))
    if data.shape.n_labels and len(np.unique(train.sample.clips)) > 1:
        pca = _fit_pca(train.pixels, MAX_FEATURES)
        yield "residual_pca_frame_mse", _score_residual(train, val, pca, n_unsupervised)
        yield from _score_labels(train, val, pca, data.label_names)


def _sample(data: PreparedData) -> tuple[_Frames, _Frames]:
    """Return frames of the training and of the validation split, with standardised labels."""
    sessions = [replace(item.session, labels=item.labels) for item in data.sessions]

    def take(split: SplitName) -> FrameSample:
        return sample_sessions(sessions, [item.splits[split] for item in data.sessions])

    train, val = take("train"), take("val")
    pixels, valid = _flatten(train)
    total = pixels.sum(axis=0) if valid is None else np.where(valid, pixels, 0).sum(axis=0)
    counts = len(pixels) if valid is None else np.maximum(valid.sum(axis=0), 1)
    mean = (total / counts).astype(np.float32)
    found = []
    for sample in (train, val):
        pixels, valid = _flatten(sample)
        filled = pixels if valid is None else np.where(valid, pixels, mean)
        found.append(_Frames(filled, valid, sample))
    return found[0], found[1]


def _flatten(sample: FrameSample) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Return pixels, (frame, pixel), and which of them count."""
    pixels = sample.frames.reshape(len(sample.frames), -1).astype(np.float32)
    if sample.frames.dtype == np.uint8:
        pixels /= 255
    mask = sample.frame_mask
    return pixels, None if mask is None else mask.reshape(pixels.shape)


def _fit_pca(frames: Floats, n_components: int) -> Any:
    """Return at most so many principal components of frames."""
    from sklearn.decomposition import PCA

    return PCA(min(n_components, *frames.shape), random_state=0).fit(frames)


def _rebuild(train: Floats, val: Floats, n_components: int) -> Floats:
    """Return validation frames as principal components of training frames give them."""
    if n_components < 1 or not np.ptp(train, axis=0).any():
        return np.broadcast_to(train.mean(axis=0), val.shape)
    pca = _fit_pca(train, n_components)
    return np.asarray(pca.inverse_transform(pca.transform(val)))


def _score_residual(train: _Frames, val: _Frames, pca: Any, n_components: int) -> float:
    """Return the error of frames by a regression on labels and components of the rest."""
    by_labels = [pca.inverse_transform(part) for part in _predict_scores(train, val, pca)]
    rest = _rebuild(train.pixels - by_labels[0], val.pixels - by_labels[1], n_components)
    return val.mse(by_labels[1] + rest)


def _predict_scores(train: _Frames, val: _Frames, pca: Any) -> tuple[Floats, Floats]:
    """Return the components of training and validation frames as a regression on labels has them.

    A regression on the components is one on the pixels, only quicker.
    """
    from sklearn.preprocessing import PolynomialFeatures

    terms = PolynomialFeatures(2, include_bias=False)
    x_train = terms.fit_transform(_label_columns(train.sample, train.sample))
    x_val = terms.transform(_label_columns(val.sample, train.sample))
    scores, clips = pca.transform(train.pixels), train.sample.clips
    return predict_new(x_train, scores, clips, x_train), predict_new(x_train, scores, clips, x_val)


def _score_hidden(
    sessions: Sequence[Session], config: TrialConfig, hidden_sets: Sequence[Sequence[str]]
) -> Iterator[tuple[str, float]]:
    """Yield how well components of what the labels leave find the hidden ones, set by set."""
    pca = None
    for names in hidden_sets:
        hiding = config.with_params({HIDDEN: list(names)})
        data = prepare_data(sessions, hiding)
        train, val = _sample(data)
        if not np.ptp(train.pixels, axis=0).any() or len(np.unique(train.sample.clips)) == 1:
            return
        pca = pca or _fit_pca(train.pixels, MAX_FEATURES)  # of the same frames each time
        yield from _score_set(data, train, val, pca, hiding)


def _score_set(
    data: PreparedData, train: _Frames, val: _Frames, pca: Any, config: TrialConfig
) -> Iterator[tuple[str, float]]:
    """Yield how well components of what the labels leave find those that are hidden."""
    rest, val_rest = pca.transform(train.pixels), pca.transform(val.pixels)
    if data.shape.n_labels:
        known, val_known = _predict_scores(train, val, pca)
        rest, val_rest = rest - known, val_rest - val_known
    components = _fit_pca(rest, config.model.count_unsupervised(data.shape.n_labels))
    readout = fit_hidden(
        components.transform(rest),
        _targets(data, "train", train.sample),
        train.sample.clips,
        components.transform(val_rest),
        _targets(data, "val", val.sample),
    )
    hidden = data.sessions[0].hidden
    assert hidden is not None
    scores = readout.score(np.arange(len(val_rest))) | readout.score_each(hidden.names)
    for name, score in scores.items():
        if score is not None:
            yield name, score


def _targets(data: PreparedData, split: SplitName, seen: FrameSample) -> SplitTargets:
    """Return the labels of sampled frames, those that models see and those that are hidden."""
    sessions = [
        replace(item.session, labels=item.hidden.labels, label_masks=item.hidden.label_masks)
        for item in data.sessions
        if item.hidden is not None
    ]
    hidden = sample_sessions(sessions, [item.splits[split] for item in data.sessions])
    return SplitTargets(
        seen.labels, seen.label_mask, seen.session_index, hidden.labels, hidden.label_mask
    )


def _score_labels(
    train: _Frames, val: _Frames, pca: Any, names: Sequence[str]
) -> Iterator[tuple[str, float]]:
    """Yield the R² of labels that a ridge regression reads from the pixels."""
    labels, mask = train.sample.labels, train.sample.label_mask
    val_labels = val.sample.labels
    assert labels is not None
    assert mask is not None
    assert val_labels is not None
    features, val_features = pca.transform(train.pixels), pca.transform(val.pixels)
    predicted = np.zeros(val_labels.shape)
    for columns in _columns_masked_alike(mask):
        rows = mask[:, columns[0]]
        clips = train.sample.clips[rows]
        if len(np.unique(clips)) > 1:
            targets = labels[rows][:, columns]
            predicted[:, columns] = predict_new(features[rows], targets, clips, val_features)
    r2 = label_r2(val_labels, predicted, val.sample.label_mask)
    if r2 is not None:
        yield "ridge_label_r2", r2.mean
        for name, value in zip(names, r2.per_label, strict=True):
            if np.isfinite(value):
                yield f"ridge_label_r2/{name}", float(value)


def _label_columns(sample: FrameSample, train: FrameSample) -> Floats:
    """Return standardised labels, 0 where masked, and where those are lost that may be."""
    assert sample.labels is not None
    assert sample.label_mask is not None
    assert train.label_mask is not None
    lost = ~sample.label_mask[:, ~train.label_mask.all(axis=0)]
    return np.concatenate([sample.labels, lost], axis=1)


def _columns_masked_alike(mask: NDArray[np.bool_]) -> list[list[int]]:
    """Return the labels in groups whose valid frames are the same."""
    groups: dict[bytes, list[int]] = {}
    for column in range(mask.shape[1]):
        groups.setdefault(mask[:, column].tobytes(), []).append(column)
    return list(groups.values())

"""Read labels and sessions from latents: fit on training frames, score on clips of a split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from psvae_tune.metrics.arrays import Array
from psvae_tune.metrics.disentanglement import (
    LassoFit,
    dci,
    information,
    mean_lead,
    predict_by_lasso,
    squared_correlation,
)
from psvae_tune.metrics.hidden_labels import (
    correlate,
    find_best_latents,
    mean_r2,
    predict_quadratic,
)
from psvae_tune.metrics.label_prediction import leak_r2, predict_by_ridge
from psvae_tune.metrics.sampling_error import Clips, frames_of
from psvae_tune.metrics.session_leakage import predict_sessions, session_accuracy
from psvae_tune.models.latents import Partition
from psvae_tune.training.evaluate import Evaluation, SplitTargets


@dataclass(frozen=True, slots=True)
class LabelReadout:
    """Labels of a split, and how well they can be read from its latents."""

    known: Array
    """(frame, latent): the supervised and the active unsupervised latents."""
    information_train: Array
    """(latent, label) over the training frames, as `information`."""
    correlation_train: Array
    """(latent, label) over the training frames, as `squared_correlation`."""
    lasso: LassoFit
    leaked: Array | None
    """(frame, label), read from the active of the unsupervised latents; None without any."""
    labels: Array
    label_mask: Array

    def score(self, rows: Array) -> dict[str, float | None]:
        """Return the metrics of labels over some frames of the split."""
        labels, mask = self.labels[rows], self.label_mask[rows]
        given = self.known[rows], labels, mask
        found: dict[str, float | None] = {
            "mig": mean_lead(self.information_train, information(*given)),
            "sap": mean_lead(self.correlation_train, squared_correlation(*given)),
        }
        if self.leaked is not None:
            found["leak_r2"] = leak_r2(labels, self.leaked[rows], mask)
        scores = dci(self.lasso.weights, labels, self.lasso.labels_hat[rows], mask)
        if scores is not None:
            found |= {f"dci_{name}": value for name, value in scores._asdict().items()}
        return found


@dataclass(frozen=True, slots=True)
class HiddenReadout:
    """Labels of a split that the model does not see, as its latents tell them."""

    latents: Array
    """(frame, latent): the active unsupervised latents."""
    best: Array
    """(label,): the latent that correlates most with each label over the training frames."""
    from_latents: Array
    """(frame, label), read by a ridge regression from these latents."""
    from_seen: Array
    """(frame, label), read from the labels that the model sees."""
    from_both: Array
    """(frame, label), read from these and the latents together, by the same regression."""
    labels: Array
    label_mask: Array

    def score(self, rows: Array) -> dict[str, float | None]:
        """Return the metrics of hidden labels over some frames of the split.

        Without an active latent nothing is found: they are all 0.
        """
        if not self.latents.shape[1]:
            return {"hidden_correlation": 0.0, "hidden_r2": 0.0, "hidden_gain": 0.0}
        labels, mask = self.labels[rows], self.label_mask[rows]
        each = np.abs(correlate(self.latents[rows], self.best, labels, mask))
        both, seen, found = (
            mean_r2(labels, values[rows], mask)
            for values in (self.from_both, self.from_seen, self.from_latents)
        )
        varies = np.isfinite(each)
        return {
            "hidden_correlation": float(each[varies].mean()) if varies.any() else None,
            "hidden_r2": found,
            "hidden_gain": None if both is None or seen is None else both - seen,
        }

    def score_each(self, names: Sequence[str]) -> dict[str, float | None]:
        """Return the correlation, 0 to 1, of each label with its latent over all frames, by name.

        Labels that do not vary have None; without an active latent, all have 0.
        """
        values = np.zeros(self.labels.shape[1])
        if self.latents.shape[1]:
            values = np.abs(correlate(self.latents, self.best, self.labels, self.label_mask))
        return {
            f"hidden_correlation/{name}": float(value) if np.isfinite(value) else None
            for name, value in zip(names, values, strict=True)
        }


@dataclass(frozen=True, slots=True)
class Readouts:
    """Labels and sessions that are read from the latents of a split."""

    clip_lengths: tuple[int, ...]
    labels: LabelReadout | None
    """None without recorded labels."""
    hidden: HiddenReadout | None
    """None without hidden labels."""
    sessions: Mapping[str, Array]
    """(frame,) by block of latents: the session that is read; empty with a single session."""
    session_index: Array
    """(frame,): the session."""
    n_sessions: int

    def score(self, clips: Clips) -> dict[str, float | None]:
        """Return the metrics of some clips of the split, which may repeat."""
        rows = frames_of(clips, self.clip_lengths)
        found = {} if self.labels is None else self.labels.score(rows)
        if self.hidden is not None:
            found |= self.hidden.score(rows)
        for block, session_hat in self.sessions.items():
            found[f"session_accuracy_{block[0]}"] = session_accuracy(
                self.session_index[rows], session_hat[rows], self.n_sessions
            )
        return found


def fit_readouts(
    partition: Partition,
    train: Array,
    train_targets: SplitTargets,
    train_clips: Array,
    seen: Evaluation,
) -> Readouts:
    """Fit regressions and classifiers to the latents of training frames.

    A collapsed unsupervised latent does not count: its signal is tiny, and may yet correlate
    perfectly with a label.

    Parameters
    ----------
    partition
        Blocks of the latents.
    train
        (frame, latent) of the training frames.
    train_targets
        Their labels and sessions.
    train_clips
        (frame,): the clip of each of them.
    seen
        The split to score.
    """
    columns = np.arange(partition.n_latents)
    active = columns[partition.unsupervised][seen.latents.is_active]
    labels = None
    if train_targets.labels is not None and seen.targets.labels is not None:
        known = np.concatenate([columns[partition.supervised], active])
        labels = _fit_labels(train, train_targets, seen, known, active, partition)
    n_sessions = len(np.unique(train_targets.session_index))
    blocks = {}
    if n_sessions > 1:
        if partition.n_unsupervised:
            blocks["unsupervised"] = active
        if partition.n_background:
            blocks["background"] = columns[partition.background]
    sessions = {
        block: predict_sessions(train[:, used], train_targets.session_index, seen.mean[:, used])
        for block, used in blocks.items()
    }
    hidden = None
    if train_targets.hidden is not None and partition.n_unsupervised:
        hidden = fit_hidden(
            train[:, active], train_targets, train_clips, seen.mean[:, active], seen.targets
        )
    index = seen.targets.session_index
    return Readouts(seen.clip_lengths, labels, hidden, sessions, index, n_sessions)


def fit_hidden(
    train: Array,
    train_targets: SplitTargets,
    train_clips: Array,
    latents: Array,
    targets: SplitTargets,
) -> HiddenReadout:
    """Fit regressions of hidden labels to latents of training frames.

    Parameters
    ----------
    train, latents
        (frame, latent) of the training frames, and of the split to score.
    train_targets, targets
        Labels of these frames, the hidden ones among them.
    train_clips
        (frame,): the clip of each training frame.

    Returns
    -------
    HiddenReadout
        The hidden labels of the split as they are read from its latents.
    """
    labels, mask = train_targets.hidden, train_targets.hidden_mask
    assert labels is not None
    assert targets.hidden is not None
    assert targets.hidden_mask is not None
    if not train.shape[1]:
        zeros = np.zeros(targets.hidden.shape)
        best = np.zeros(labels.shape[1], int)
        return HiddenReadout(
            latents, best, zeros, zeros, zeros, targets.hidden, targets.hidden_mask
        )
    known, new = _seen_columns(train_targets), _seen_columns(targets)
    both, both_new = np.concatenate([known, train], 1), np.concatenate([new, latents], 1)
    return HiddenReadout(
        latents,
        find_best_latents(train, labels, mask),
        predict_by_ridge(train, labels, latents, mask),
        predict_quadratic(known, labels, train_clips, new, mask),
        predict_quadratic(both, labels, train_clips, both_new, mask),
        targets.hidden,
        targets.hidden_mask,
    )


def _seen_columns(targets: SplitTargets) -> Array:
    """Return the labels that the model sees, 0 where masked; a constant where it sees none."""
    if targets.labels is None or targets.label_mask is None:
        return np.zeros((len(targets.session_index), 1))
    return np.where(targets.label_mask, targets.labels, 0)


def _fit_labels(
    train: Array,
    train_targets: SplitTargets,
    seen: Evaluation,
    known: Array,
    active: Array,
    partition: Partition,
) -> LabelReadout:
    labels, mask = train_targets.labels, train_targets.label_mask
    assert labels is not None
    assert seen.targets.labels is not None
    assert seen.targets.label_mask is not None
    z = train[:, known]
    leaked = predict_by_ridge(train[:, active], labels, seen.mean[:, active], mask)
    return LabelReadout(
        seen.mean[:, known],
        information(z, labels, mask),
        squared_correlation(z, labels, mask),
        predict_by_lasso(z, labels, seen.mean[:, known], mask),
        leaked if partition.n_unsupervised else None,
        seen.targets.labels,
        seen.targets.label_mask,
    )

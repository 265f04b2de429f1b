"""Read labels and sessions from latents: fit on training frames, score on clips of a split."""

from collections.abc import Mapping
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
class Readouts:
    """Labels and sessions that are read from the latents of a split."""

    clip_lengths: tuple[int, ...]
    labels: LabelReadout | None
    """None without recorded labels."""
    sessions: Mapping[str, Array]
    """(frame,) by block of latents: the session that is read; empty with a single session."""
    session_index: Array
    """(frame,): the session."""
    n_sessions: int

    def score(self, clips: Clips) -> dict[str, float | None]:
        """Return the metrics of some clips of the split, which may repeat."""
        rows = frames_of(clips, self.clip_lengths)
        found = {} if self.labels is None else self.labels.score(rows)
        for block, session_hat in self.sessions.items():
            found[f"session_accuracy_{block[0]}"] = session_accuracy(
                self.session_index[rows], session_hat[rows], self.n_sessions
            )
        return found


def fit_readouts(
    partition: Partition, train: Array, train_targets: SplitTargets, seen: Evaluation
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
    return Readouts(seen.clip_lengths, labels, sessions, seen.targets.session_index, n_sessions)


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

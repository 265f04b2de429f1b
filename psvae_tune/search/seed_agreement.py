"""How far fits that differ only in their seed agree."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from psvae_tune.config.selection_rule import SEED_PARAMETER
from psvae_tune.data.session import Session
from psvae_tune.metrics.latent_dependence import mean_kl
from psvae_tune.metrics.seed_agreement import udr
from psvae_tune.models.model_file import load_model
from psvae_tune.search.trainable import TrialContext
from psvae_tune.search.trial_spec import Origin, TrialSpec
from psvae_tune.tracking.outbox import fetch_file, log_metrics
from psvae_tune.tracking.trial_result import TrialResult
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.evaluate import evaluate


def with_udr(
    points: Sequence[TrialSpec],
    trials: Sequence[TrialResult],
    origin: Origin,
    sessions: Sequence[Session],
    job: TrialContext,
) -> list[TrialResult]:
    """Return trials with their agreement ``udr``, where other seeds were fitted as well.

    Fits are compared by what their unsupervised latents say of the validation frames. Models
    without a posterior are returned as they are.

    Parameters
    ----------
    points, trials
        Of a stage, one beside the other.
    origin
        What they start from.
    sessions
        Their recordings.
    job
        Of the stage: where their models are.

    Side effects: logs ``best/udr`` and its spread over pairs, ``best/udr_spread``.
    """
    groups: dict[str, list[int]] = {}
    for index, (point, trial) in enumerate(zip(points, trials, strict=True)):
        if trial.completed and "posterior" in origin.base.model.capabilities:
            others = {name: v for name, v in point.params.items() if name != SEED_PARAMETER}
            groups.setdefault(json.dumps(others, sort_keys=True), []).append(index)
    found = list(trials)
    for group in groups.values():
        if len(group) > 1:
            _score([points[i] for i in group], group, found, origin, sessions, job)
    return found


def _score(
    points: Sequence[TrialSpec],
    group: Sequence[int],
    found: list[TrialResult],
    origin: Origin,
    sessions: Sequence[Session],
    job: TrialContext,
) -> None:
    """Score fits of the same settings. Side effects: replaces them in ``found``; logs."""
    data = prepare_data(sessions, origin.base.with_params(points[0].params))
    latents, kls = [], []
    with TemporaryDirectory() as folder:
        for point in points:
            model = load_model(
                fetch_file(job.folder, job.target, point.trial_id, "model.pt", Path(folder))
            ).model
            seen = evaluate(model, data, "val", torch.device("cpu"))
            columns = model.partition.unsupervised
            assert seen.logvar is not None
            latents.append(seen.mean[:, columns])
            kls.append(mean_kl(seen.mean[:, columns], seen.logvar[:, columns]))
    agreement = udr(latents, kls)
    if agreement is None:
        return
    for place, index in enumerate(group):
        value, spread = float(agreement.per_fit[place]), float(agreement.spread[place])
        trial = found[index]
        found[index] = replace(trial, metrics={**trial.metrics, "udr": value})
        scores = {"best/udr": value, "best/udr_spread": spread}
        log_metrics(job.folder, job.target, trial.trial_id, scores)

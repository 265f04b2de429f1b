"""The agreement of fits that differ only in their seed."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from psvae_tune.config.selection_rule import SEED_PARAMETER
from psvae_tune.data.session import Session
from psvae_tune.metrics.seed_agreement import UDR, udr
from psvae_tune.models.model_file import load_model
from psvae_tune.search.trial_spec import StageContext, TrialSpec
from psvae_tune.tracking.outbox import Outbox
from psvae_tune.tracking.trial_result import TrialResult
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.evaluate import evaluate


def with_udr(
    specs: Sequence[TrialSpec],
    trials: Sequence[TrialResult],
    sessions: Sequence[Session],
    context: StageContext,
) -> list[TrialResult]:
    """Return trials with their agreement ``udr``, where other seeds were fitted as well.

    Fits are compared by their active unsupervised latents of the validation frames. Which are
    active, the frames of `gather_latents` tell, as for all other metrics. Trials of models
    without a posterior are returned as they are.

    Parameters
    ----------
    specs, trials
        The trials of a stage and their results, in the same order.
    sessions
        The recordings that they were fitted to.
    context
        The stage.

    Side effects: logs ``best/udr`` and its spread over pairs, ``best/udr_spread``.
    """
    groups: dict[str, list[int]] = {}
    for index, (spec, trial) in enumerate(zip(specs, trials, strict=True)):
        if trial.completed and "posterior" in context.base.model.capabilities:
            others = {name: v for name, v in spec.params.items() if name != SEED_PARAMETER}
            groups.setdefault(json.dumps(others, sort_keys=True), []).append(index)
    scored = list(trials)
    for group in groups.values():
        agreement = None
        if len(group) > 1:
            agreement = _measure_agreement([specs[i] for i in group], sessions, context)
        if agreement is not None:
            for row, index in enumerate(group):
                value, spread = float(agreement.per_fit[row]), float(agreement.spread[row])
                metrics = {**trials[index].metrics, "udr": value}
                scored[index] = replace(trials[index], metrics=metrics)
                scores = {"best/udr": value, "best/udr_spread": spread}
                trial_id = trials[index].trial_id
                Outbox.of(context.folder, context.target, trial_id).log_late(scores)
    return scored


def _measure_agreement(
    specs: Sequence[TrialSpec], sessions: Sequence[Session], context: StageContext
) -> UDR | None:
    """Return the agreement of fits of the same settings; None where there are too few frames."""
    data = prepare_data(sessions, context.config(specs[0]))
    latents, active = [], []
    with TemporaryDirectory() as folder:
        for spec in specs:
            outbox = Outbox.of(context.folder, context.target, spec.trial_id)
            path = outbox.fetch_file("model.pt", Path(folder))
            model = load_model(path).model
            evaluation = evaluate(model, data, "val", torch.device("cpu"))
            latents.append(evaluation.mean[:, model.partition.unsupervised])
            active.append(evaluation.latents.is_active)
    return udr(latents, active)

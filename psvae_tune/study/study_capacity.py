"""Tell how many unsupervised latents the frames of a study keep active."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from psvae_tune.config.stage_settings import possible_settings
from psvae_tune.config.study import Study
from psvae_tune.config.wording import pluralise
from psvae_tune.data.frame_capacity import (
    measure_files,
    measure_sessions,
    needs_decoder_variance,
    set_decoder_variance,
)
from psvae_tune.data.session import Session
from psvae_tune.errors import DataError
from psvae_tune.metrics.capacity import Capacity
from psvae_tune.study.plan import StudyPlan

N_SHOWN = 4
"""Number of components that are shown, at most one a latent."""


@dataclass(frozen=True, slots=True)
class PlanWithCapacity:
    """A study whose ``decoder_variance`` is a number, and its frames in words."""

    plan: StudyPlan
    lines: tuple[str, ...]
    """Sentences on the latents that can be active; none for models without a variance."""
    warnings: tuple[str, ...]
    """Sentences on latents that must collapse, or why nothing is known."""


def measure_plan(plan: StudyPlan, sessions: Sequence[Session] | None = None) -> PlanWithCapacity:
    """Measure the training frames of a study, and take ``decoder_variance: auto`` from them.

    Parameters
    ----------
    plan
        The study.
    sessions
        Its recordings, if they have been read; else some frames are read from the files.

    Raises
    ------
    DataError
        If the variance is to be taken from frames that have no capacity, or a file cannot be read.
    """
    study = plan.study
    if "posterior" not in study.base.model.capabilities:
        return PlanWithCapacity(plan, (), ())
    try:
        capacity = (
            measure_files(plan.headers, study.base)
            if sessions is None
            else measure_sessions(sessions, study.base)
        )
    except DataError as error:
        if needs_decoder_variance(study.base):
            raise
        why = f"{error.where} {error.problems[0]}"
        return PlanWithCapacity(plan, (), (f"nobody knows how many latents can be active: {why}",))
    n_labels = plan.headers[0].n_labels
    lines: list[str] = []
    if needs_decoder_variance(study.base):
        base = set_decoder_variance(study.base, capacity, n_labels)
        study = study.model_copy(update={"base": base})
        lines.append(f"decoder_variance: auto is {base.model.least_variance:g}")
    found = list(_describe(study, capacity, n_labels))
    lines += [line for line, _ in found]
    warnings = tuple(warning for _, warning in found if warning)
    return PlanWithCapacity(replace(plan, study=study), tuple(lines), warnings)


def _describe(study: Study, capacity: Capacity, n_labels: int) -> Iterator[tuple[str, str]]:
    """Yield a sentence, and a warning or nothing, for the largest and the smallest variance."""
    least, n_latents = _possible(study, n_labels)
    if n_latents < 1:
        return
    sees_labels = study.base.model.needs_labels
    n_seen = n_labels - len(study.base.data.hidden_labels)
    what = f"beside {pluralise(n_seen, 'label')}" if sees_labels else "of the frames"
    for variance in dict.fromkeys((max(least), min(least))):
        n_active = min(n_latents, capacity.count_active(variance))
        n_shown = min(n_latents, N_SHOWN)
        strengths = ", ".join(f"{value:.2g}" for value in capacity.residual[:n_shown])
        shares = ", ".join(f"{100 * s:.0f} %" for s in capacity.surviving(variance)[:n_shown])
        latents = f"{n_active} of {pluralise(n_latents, 'unsupervised latent')} can be active"
        yield (
            f"{latents} at variance {variance:.2g}; components {what} have {strengths} "
            f"({shares} survive)",
            _warn(capacity, variance, n_latents, n_active),
        )


def _warn(capacity: Capacity, variance: float, n_latents: int, n_active: int) -> str:
    if n_active >= n_latents:
        return ""
    text = f"{n_latents - n_active} of {n_latents} unsupervised latents must collapse"
    if not capacity.stands_out(n_latents):
        return f"{text} at variance {variance:.2g}, and what they could code is noise; take fewer"
    better = capacity.choose_variance(n_latents)
    return f"{text} at variance {variance:.2g}; decoder_variance {better:.2g} keeps them"


def _possible(study: Study, n_labels: int) -> tuple[list[float], int]:
    """Return the variances that components must exceed, and the most unsupervised latents."""
    least, counts = [], []
    names = ("decoder_variance", "vae.beta", "n_ae_latents", "n_background")
    for settings in possible_settings(study.stages, study.base):
        known = [name for name in names if name in settings]
        for values in itertools.product(*(settings[name] for name in known)):
            config = study.base.with_params(dict(zip(known, values, strict=True)))
            assert config.model.least_variance is not None
            least.append(config.model.least_variance)
            counts.append(config.count_unsupervised(n_labels))
    return least, max(counts)

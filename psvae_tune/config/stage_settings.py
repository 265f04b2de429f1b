"""The settings that the trials of a stage may have, and the epochs that follow from them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from psvae_tune.config.domain import Domain
from psvae_tune.config.hidden_labels import HIDDEN
from psvae_tune.config.stage import Stage
from psvae_tune.config.trial import TrialConfig
from psvae_tune.errors import ConfigError

EPOCHS = "max_n_epochs"
"""Hyperparameter that is the length of a training."""
PossibleSettings = Mapping[str, tuple[Any, ...]]
"""Settings that each hyperparameter may have; of a range, those of its two ends."""


def possible_settings(stages: Sequence[Stage], base: TrialConfig) -> Iterator[PossibleSettings]:
    """Yield, stage by stage, the settings that its trials may have, by their published names.

    A stage starts from the choice of the stages before, which may be any of their trials. So what
    they vary may have any of their values, unless the stage varies it again.
    """
    possible = {name: (setting,) for name, setting in base.params.items()}
    for stage in stages:
        for name, domain in stage.space.items():
            possible[name] = _settings(name, domain, base) or possible.get(name, ())
        own = {EPOCHS: (stage.epochs,)} if stage.start_from else {}
        yield possible | own
        possible[HIDDEN] = (base.params[HIDDEN],)  # is not handed on


def list_hidden_sets(stages: Sequence[Stage], base: TrialConfig) -> list[list[str]]:
    """Return the different sets of labels that are hidden from trials of some stages."""
    texts = [text for settings in possible_settings(stages, base) for text in settings[HIDDEN]]
    return [names for text in dict.fromkeys(texts) if (names := json.loads(text))]


def count_digits(stages: Sequence[Stage]) -> dict[str, int]:
    """Return the digits before the point of the largest value that any stage tries."""
    found: dict[str, int] = {}
    for stage in stages:
        for name, domain in stage.space.items():
            found[name] = max(domain.n_digits, found.get(name, 1))
    return found


def _settings(name: str, domain: Domain, base: TrialConfig) -> tuple[Any, ...]:
    """Return the settings that the extremes of a domain become, without invalid ones."""
    settings = []
    for value in domain.extremes:
        with suppress(ConfigError):
            settings.append(base.setting_of(name, value))
    return tuple(settings)


def max_trial_epochs(stage: Stage, base: TrialConfig) -> int:
    """Return the number of epochs of the longest trial of a stage."""
    if stage.epochs is not None:
        return stage.epochs
    domain = stage.space.get(EPOCHS)
    return int(max(domain.extremes)) if domain else base.training.max_n_epochs


def max_anneal_epochs(stage: Stage, base: TrialConfig) -> int:
    """Return the number of epochs of the longest annealing of a stage."""
    if stage.start_from is not None:
        return stage.n_ramp_epochs
    lengths = [
        max(stage.space[name].extremes) if name in stage.space else base.params[name]
        for name in base.model.anneal_settings
    ]
    return int(max(lengths, default=0))

"""Settings of one trial: frozen, validated, under their published names.

Values from a YAML file or a sampler become a `TrialConfig` at once; nothing uses them raw.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import SerializeAsAny

from psvae_tune.config.continuation import Continuation
from psvae_tune.config.hidden_labels import HIDDEN
from psvae_tune.config.metric_check import end_problem, metric_problem
from psvae_tune.config.model import MODEL_CONFIGS, ModelConfig
from psvae_tune.config.settings import Settings, parse_settings, setting_names
from psvae_tune.config.training import DataConfig, TrainingConfig
from psvae_tune.config.warm_up import WarmUp
from psvae_tune.errors import ConfigError, nearest

NOT_IN_TRIAL_ID = frozenset({"checkpoint_every", "cuda_graph"})
"""Settings that cannot change the numbers of a trial; all others are part of its identity.

The machine is no part of it, because a driver does not know which one trains a trial. Threads,
devices and versions of libraries change numbers by rounding. ``precision: auto`` is float32 on one
machine and bfloat16 on another, which changes them more; the run of a trial says which it was, and
``float32`` or ``bfloat16`` in the file makes it a part of the identity.
"""


class TrialConfig(Settings):
    """All settings that decide the numbers of one trial, beside the contents of its data."""

    model: SerializeAsAny[ModelConfig]
    """Settings of the model."""
    training: TrainingConfig
    """Settings of the optimisation."""
    data: DataConfig
    """Settings of the recordings."""
    continuation: Continuation | None = None
    """The trial that the training goes on from; None if it begins with new weights."""

    @property
    def params(self) -> dict[str, Any]:
        """All settings by their published names; nested ones are JSON texts."""
        sections = self.sections
        flat = {name: value for section in sections.values() for name, value in section.items()}
        if self.continuation:
            flat["ramp_epochs"] = self.continuation.n_ramp_epochs
        return {
            name: json.dumps(value) if isinstance(value, dict | list) else value
            for name, value in flat.items()
        }

    @property
    def sections(self) -> dict[str, dict[str, Any]]:
        """The sections ``model``, ``training`` and ``data``, as they stand in a file."""
        return self.model_dump(mode="json", by_alias=True, exclude={"continuation"})

    @property
    def warm_ups(self) -> tuple[WarmUp, ...]:
        """The weights that change in the first epochs of the training."""
        if self.continuation is None:
            return tuple(item for item in self.model.warm_ups if item.start is not None)
        old, n_epochs = self.continuation.weights, self.continuation.n_ramp_epochs
        return tuple(
            WarmUp(name, self.model.weighted_terms[name], weight, old[name], n_epochs)
            for name, weight in self.model.weights.items()
            # There is no geometric way from 0 or to 0.
            if n_epochs and weight != old[name] and weight * old[name]
        )

    def count_unsupervised(self, n_labels: int) -> int:
        """Return the number of unsupervised latents, for recordings of so many labels."""
        return self.model.count_unsupervised(n_labels - len(self.data.hidden_labels))

    @property
    def n_anneal_epochs(self) -> int:
        """Number of epochs until all weights have their values; 0 if they have them at once."""
        if self.continuation is not None:
            return self.continuation.n_ramp_epochs
        return self.model.n_anneal_epochs

    @property
    def hyperparameters(self) -> list[str]:
        """Published names of the settings of this model that a stage may vary."""
        names = [*setting_names(type(self.model)), *setting_names(TrainingConfig)]
        return [name for name in names if name != "model_class"] + [HIDDEN]

    @staticmethod
    def section_of(name: str) -> Literal["model", "training", "data"]:
        """Return the section of a search-space file that holds a hyperparameter."""
        if name == HIDDEN:
            return "data"
        return "training" if name in TrainingConfig.model_fields else "model"

    def setting_of(self, name: str, value: Any) -> Any:
        """Return the setting that a value of a hyperparameter becomes, such as 1.0 for ``1``.

        Raises
        ------
        ConfigError
            If the name is unknown or the value invalid.
        """
        return self.with_params({name: value}).params[name]

    def trial_id(self, digests: Sequence[str], but: Collection[str] = ()) -> str:
        """Return the identity of a trial, a hash of its settings and its sessions' contents.

        Parameters
        ----------
        digests
            Digest of the contents of each session, in the order of the sessions.
        but
            Hyperparameters to leave out: trials that differ in these alone get one identity.
        """
        # A weight that has its value at once is what it was before there were warm-ups.
        off = {
            name for item in self.model.warm_ups if item.start is None for name in item.settings
        }
        if not self.data.hidden_labels:
            off.add(HIDDEN)
        # The published variance is what all models had before it could be another.
        if self.params.get("decoder_variance") == 1:
            off.add("decoder_variance")
        origin = self.continuation.identity if self.continuation else {}
        settings = {
            name: value
            for name, value in (self.params | origin).items()
            if name not in NOT_IN_TRIAL_ID | off and name != "sessions" and name not in but
        }
        text = json.dumps([settings, list(digests)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def with_params(self, params: Mapping[str, Any]) -> "TrialConfig":
        """Return these settings with some hyperparameters changed.

        Parameters
        ----------
        params
            Values of hyperparameters by their published names.

        Raises
        ------
        ConfigError
            If a name is unknown or a value invalid.
        """
        raw = self.sections
        for name, value in params.items():
            raw[self.section_of(name)][name] = value
        changed = parse_trial_config(raw, "trial settings")
        return changed.model_copy(update={"continuation": self.continuation})

    def continued(self, continuation: Continuation) -> "TrialConfig":
        """Return these settings for a training that goes on from another trial.

        Nothing is annealed in it but by the ramp from the old weights.
        """
        epochs = {"max_n_epochs": continuation.n_epochs, "min_n_epochs": 0}
        starts = {item.settings[0]: None for item in self.model.warm_ups}
        at_once = dict.fromkeys(self.model.anneal_settings, 0)
        changed = self.with_params({**epochs, **starts, **at_once})
        return changed.model_copy(update={"continuation": continuation})


def parse_trial_config(raw: Mapping[str, Any], where: str) -> TrialConfig:
    """Validate the settings of one trial.

    Parameters
    ----------
    raw
        Sections ``model``, ``training`` and ``data``, each with values by published names.
    where
        Name of the file or object in an error.

    Raises
    ------
    ConfigError
        If a section is invalid; the message names every problem.
    """
    problems: list[str] = []
    model = _parse_model(raw.get("model"), problems)
    training = parse_settings(TrainingConfig, raw.get("training", {}), "training", problems)
    data = parse_settings(DataConfig, raw.get("data", {}), "data", problems)
    if model and training and data:
        problems += _contradictions(model, training, data)
        if not problems:
            return TrialConfig.model_construct(model=model, training=training, data=data)
    raise ConfigError(where, problems)


def _parse_model(raw: Any, problems: list[str]) -> ModelConfig | None:
    if not isinstance(raw, Mapping):
        problems.append(f"model: must be a mapping with a `model_class`, got {raw!r}")
        return None
    name = raw.get("model_class")
    if not isinstance(name, str) or name not in MODEL_CONFIGS:
        near = nearest(str(name), MODEL_CONFIGS)
        choice = f"did you mean `{near}`?" if near else f"choose from {', '.join(MODEL_CONFIGS)}"
        problems.append(f"model.model_class: not a known model, got {name!r}; {choice}")
        return None
    return parse_settings(MODEL_CONFIGS[name], raw, "model", problems)


def _contradictions(
    model: ModelConfig, training: TrainingConfig, data: DataConfig
) -> Iterator[str]:
    """Yield the problems of settings that are valid alone but not together."""
    for warm_up in model.warm_ups:
        yield from warm_up.problems()
    if model.n_anneal_epochs > training.max_n_epochs:
        yield (
            f"training.max_n_epochs: must be at least the {model.n_anneal_epochs} epochs of "
            f"annealing, got {training.max_n_epochs}"
        )
    if training.min_n_epochs > training.max_n_epochs:
        yield (
            f"training.min_n_epochs: must not exceed max_n_epochs ({training.max_n_epochs}), "
            f"got {training.min_n_epochs}"
        )
    if model.needs_centred_labels and data.label_scaling == "none":
        yield (
            f"data.label_scaling: `{model.model_class}` has no bias and needs centred labels, "
            "got 'none'; use `center` or `zscore`"
        )
    if training.micro_batch_size is not None and model.ae_arch_json.ae_batch_norm:
        yield (
            "training.micro_batch_size: cannot go with ae_batch_norm, which would normalise each "
            f"micro-batch by itself, got {training.micro_batch_size}; leave one of them out"
        )
    problem = metric_problem(training.best_epoch_metric, model)
    if problem or (problem := end_problem(training.best_epoch_metric)):
        yield f"training.best_epoch_metric: {problem}"


def with_fewer_epochs(config: TrialConfig, reduction: float) -> TrialConfig:
    """Return settings with every number of epochs divided, those of the annealing included.

    Annealed weights therefore reach their full values before the shorter trial ends.

    Parameters
    ----------
    config
        Settings of a trial of full length.
    reduction
        Divisor of the numbers of epochs.
    """
    names = {name for name in epoch_settings(config) if config.params[name]}
    shorter = {name: max(1, round(config.params[name] / reduction)) for name in names}
    return config.with_params(shorter)


def epoch_settings(config: TrialConfig) -> list[str]:
    """Return the published names of the settings that `with_fewer_epochs` changes."""
    return ["max_n_epochs", "min_n_epochs", *config.model.anneal_settings]

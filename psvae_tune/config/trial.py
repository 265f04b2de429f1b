"""The settings of one training run: frozen, validated, under their published names.

A raw dict from a YAML file or a sampler becomes a `TrialConfig` at once and is never used
again.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny

from psvae_tune.config.metric_catalog import end_problem, metric_problem
from psvae_tune.config.model import MODEL_CONFIGS, ModelConfig, Positive, Seed
from psvae_tune.config.settings import Settings, parse_settings, setting_names
from psvae_tune.errors import ConfigError, nearest

Precision = Literal["auto", "float32", "bfloat16"]
LabelScaling = Literal["zscore", "center", "none"]


class TrainingConfig(Settings):
    """How a model is fitted."""

    learning_rate: Positive = 1e-4
    max_n_epochs: Annotated[int, Field(ge=1)] = 200
    min_n_epochs: Annotated[int, Field(ge=0)] = 0
    enable_early_stop: bool = False
    early_stop_history: Annotated[int, Field(ge=1)] = 10
    """Validations without improvement after which a fit ends."""
    val_check_interval: Annotated[int, Field(ge=1)] = 1
    """Epochs from one validation to the next."""
    precision: Precision = "auto"
    """Of the convolutions while training; ``auto``: bfloat16 where products are quicker in it."""
    micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Frames whose activations are held at a time, for batches too large for the memory.

    The loss is of the whole batch all the same; a step takes about a third longer. None for all.
    """
    rng_seed_train: Seed = 0
    train_frac: Positive = 1.0
    """Fraction of the training clips, or their number where above 1."""
    best_epoch_metric: str = "val/frame_mse"
    """What decides, after the annealing, which epoch of a fit is its best."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 10
    """Epochs from one checkpoint to the next: the most, of those logged, that a crash can cost."""


class DataConfig(Settings):
    """Which recordings, and how their clips and labels are used."""

    sessions: Annotated[tuple[str, ...], Field(min_length=1)] = ("demo",)
    trial_splits: Annotated[str, Field(pattern=r"^\d+;\d+;\d+;\d+$")] = "8;1;1;0"
    rng_seed_data: Seed = 0
    label_scaling: LabelScaling = "zscore"
    """What is done to the labels, with statistics of the valid entries of the training clips."""


# Settings that cannot change the numbers of a trial; all others are part of its identity.
NOT_IN_FINGERPRINT = frozenset({"checkpoint_every"})


class TrialConfig(Settings):
    """Everything that decides the numbers of one trial, except the contents of its data."""

    model: SerializeAsAny[ModelConfig]
    training: TrainingConfig
    data: DataConfig

    @property
    def params(self) -> dict[str, Any]:
        """Every setting under its published name; nested ones as JSON."""
        dumped = self.model_dump(mode="json", by_alias=True)
        flat = {name: value for section in dumped.values() for name, value in section.items()}
        return {
            name: json.dumps(value) if isinstance(value, dict | list) else value
            for name, value in flat.items()
        }

    @property
    def hyperparameters(self) -> list[str]:
        """Published names of the settings of this model that a stage may vary."""
        names = [*setting_names(type(self.model)), *setting_names(TrainingConfig)]
        return [name for name in names if name != "model_class"]

    @staticmethod
    def section_of(name: str) -> Literal["model", "training"]:
        """Return the section of a search-space file that holds a hyperparameter."""
        return "training" if name in TrainingConfig.model_fields else "model"

    def fingerprint(self, digests: Sequence[str]) -> str:
        """Return the identity of a trial: a hash of its settings and of its sessions' contents."""
        settings = {
            name: value
            for name, value in self.params.items()
            if name not in NOT_IN_FINGERPRINT and name != "sessions"
        }
        text = json.dumps([settings, list(digests)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def with_params(self, params: Mapping[str, Any]) -> "TrialConfig":
        """Return these settings with some hyperparameters changed, validated anew.

        Raises
        ------
        ConfigError
            If a name or a value is refused.
        """
        raw = self.model_dump(mode="json", by_alias=True)
        for name, value in params.items():
            raw[self.section_of(name)][name] = value
        return parse_trial_config(raw, "trial settings")


def parse_trial_config(raw: Mapping[str, Any], where: str) -> TrialConfig:
    """Validate the settings of one training run.

    Parameters
    ----------
    raw
        Sections ``model``, ``training`` and ``data``, keyed by published names.
    where
        The file or object to name in an error.

    Raises
    ------
    ConfigError
        With every problem of the three sections.
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
    """Yield what is wrong between settings that are each right."""
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
            "training.micro_batch_size: would normalise each micro-batch by itself, got "
            f"{training.micro_batch_size} with ae_batch_norm; leave one of them out"
        )
    problem = metric_problem(training.best_epoch_metric, model)
    if problem or (problem := end_problem(training.best_epoch_metric)):
        yield f"training.best_epoch_metric: {problem}"


def with_fewer_epochs(config: TrialConfig, reduction: float) -> TrialConfig:
    """Return settings with all numbers of epochs divided, those of the annealing included.

    The weights that are annealed then reach their full values before the shorter fit ends.
    """
    names = {name for name in epoch_settings(config) if config.params[name]}
    shorter = {name: max(1, round(config.params[name] / reduction)) for name in names}
    return config.with_params(shorter)


def epoch_settings(config: TrialConfig) -> list[str]:
    """Return the hyperparameters that a shorter training changes."""
    annealing = config.model.anneal_setting
    return ["max_n_epochs", "min_n_epochs", *([annealing] if annealing else [])]

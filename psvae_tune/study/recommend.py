"""A search-space file for one recording, with the reason beside each value."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import yaml

from psvae_tune.cluster.nodes import count_cpus, count_local_slots
from psvae_tune.config.study import Study
from psvae_tune.config.wording import pluralise
from psvae_tune.data.quality_findings import ALIKE, REDUNDANT, memory_of, redundant_pairs
from psvae_tune.data.quality_measures import Measures, measure_session
from psvae_tune.data.splits import split_clips
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.files import is_url
from psvae_tune.study.estimate import estimate_epochs
from psvae_tune.study.load_sessions import choose_streamed, read_sessions
from psvae_tune.study.plan import make_plan
from psvae_tune.training.cost import measure_cost
from psvae_tune.training.fit import pick_dtype

# α·n_labels/n_pixels: 0.09 to 0.15 in the published fits of one session; from a tenth of that to
# three times it, in even steps.
NORMALISED_ALPHAS = (0.01, 0.03, 0.1, 0.3)
BETAS = (1, 5, 10, 20)
SEEDS = (0, 1, 2)
N_UNSUPERVISED = 2
N_STEPS = 8000
"""Updates of the weights that a fit should have."""
MIN_EPOCHS, MAX_EPOCHS = 100, 500
SMALL = 48
"""Pixels of the longer side up to which the network of the demo is enough."""
SMALL_NETWORK = {
    "ae_encoding_n_channels": [16, 32, 64],
    "ae_encoding_kernel_size": [5, 5, 5],
    "ae_encoding_stride_size": [2, 2, 2],
}


@dataclass(frozen=True, slots=True)
class Hardware:
    """What this machine has."""

    n_cpus: int
    n_gpus: int

    @classmethod
    def of_this_machine(cls) -> "Hardware":
        """Ask the operating system and the driver."""
        return cls(count_cpus(), torch.cuda.device_count())

    @property
    def device(self) -> torch.device:
        """Where a trial would run."""
        return torch.device("cuda" if self.n_gpus else "cpu")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a study takes on this machine."""

    epoch_s: float
    """Seconds that one fit takes for an epoch."""
    n_fits: int
    """Of all stages, at most."""
    n_at_a_time: int
    """Fits that run beside each other, each as quick as alone."""
    n_rounds: int
    """Fits that are trained one after the other."""

    def hours(self, n_epochs: int) -> float:
        """Return the hours of the whole study, with so many epochs a fit."""
        return self.epoch_s * n_epochs * self.n_rounds / 3600

    def count_affordable(self, hours: float) -> int:
        """Return how many epochs a fit may have for the study to end within so many hours.

        Raises
        ------
        ConfigError
            If they are fewer than a fit needs.
        """
        n_epochs = hours / self.hours(1)
        if not n_epochs >= MIN_EPOCHS:  # or no number
            raise ConfigError(
                "--hours",
                f"{hours:g} hours are too few for {self.n_fits} fits of {MIN_EPOCHS} epochs, "
                f"which take about {math.ceil(10 * self.hours(MIN_EPOCHS)) / 10:g} hours here",
                "give more, import with a smaller --size, or run on a faster machine",
            )
        return int(min(n_epochs, MAX_EPOCHS)) // 10 * 10


def recommend(
    path: str, hours: float | None = None, progress: Callable[[str], None] | None = None
) -> str:
    """Return the text of a search-space file for a recording.

    Parameters
    ----------
    path
        A session with labels.
    hours
        Within which the study should end on this machine: fits get fewer epochs if need be.
    progress
        Told what is being done.

    Raises
    ------
    DataError
        If the session cannot be used, or has fewer clips than a study needs.
    ConfigError
        If so few hours are enough for no study.
    """
    tell = progress or (lambda what: None)
    tell("reading frames")
    measures = measure_session(path)
    if not measures.header.n_labels:
        hint = "import it with --pose, or start from search_spaces with a model without labels"
        raise DataError(path, "holds no labels to recommend a PS-VAE for", hint)
    hardware = Hardware.of_this_machine()
    values = _choose(measures)
    tell("timing a fit")
    cost = _measure_cost(_write(measures, hardware, values))
    if hours is not None and (n_epochs := cost.count_affordable(hours)) < values.n_epochs:
        values = replace(values, n_epochs=n_epochs, hours=hours)
    return _describe_cost(measures, hardware, values, cost) + _write(measures, hardware, values)


@dataclass(frozen=True, slots=True)
class _Values:
    """What is recommended."""

    path: str
    trial_splits: str
    n_latents: int
    alphas: tuple[float, ...]
    n_epochs: int
    val_check_interval: int
    n_train_clips: int
    network: dict[str, list[int]] | None
    hours: float | None = None
    """For which epochs were cut; None if they were not."""


def _choose(m: Measures) -> _Values:
    header = m.header
    curve = m.autocorrelation()
    across = 0.0 if curve is None else float(curve[min(m.clip_length // 2, len(curve) - 1)])
    trial_splits = "8;1;1;1" if across > ALIKE and header.n_clips >= 13 else "8;1;1;0"
    splits = split_clips(header.n_clips, trial_splits, 0, where=header.path)
    epochs = N_STEPS / len(splits.train)
    n_epochs = int(np.clip(round(epochs / 50) * 50, MIN_EPOCHS, MAX_EPOCHS))
    n_pixels = math.prod(header.frame_shape)
    scale = n_pixels / header.n_labels
    alphas = tuple(float(f"{value * scale:.1g}") for value in NORMALISED_ALPHAS)
    is_small = max(header.height, header.width) <= SMALL
    return _Values(
        header.path if is_url(header.path) else os.path.abspath(header.path),
        trial_splits,
        header.n_labels + N_UNSUPERVISED,
        alphas,
        n_epochs,
        max(1, n_epochs // 100),
        len(splits.train),
        SMALL_NETWORK if is_small else None,
    )


def _measure_cost(text: str) -> Cost:
    plan = make_plan(yaml.safe_load(text), "recommendation")
    sessions = read_sessions(plan, choose_streamed(plan))
    resources = plan.study.resources
    epoch_s = measure_cost(sessions, plan.study.base, int(resources.cpus_per_trial)).epoch_s
    n_slots = count_local_slots(resources)
    n_fits, n_rounds = (_count_fits(plan.study, n) for n in (1, n_slots))
    return Cost(epoch_s, n_fits, n_slots, n_rounds)


def _count_fits(study: Study, n_slots: int) -> int:
    """Return how many fits of full length a study trains one after the other."""
    n_epochs = estimate_epochs(study, n_slots).n_epochs
    assert n_epochs is not None
    return n_epochs // study.base.training.max_n_epochs


def _describe_cost(m: Measures, hardware: Hardware, v: _Values, cost: Cost) -> str:
    header = m.header
    hours_a_fit = cost.epoch_s * v.n_epochs / 3600
    return f"""\
# Recommended for {json.dumps(os.path.basename(header.path))}: {header.n_frames} frames of \
{"×".join(map(str, header.frame_shape))}, {header.n_labels} labels.
#
# Cost: up to {cost.n_fits} fits of {hours_a_fit:.2g} hours, measured on this machine \
({_describe_machine(hardware)}, {pluralise(hardware.n_cpus, "CPU")}),
# {cost.n_at_a_time} at a time, {cost.n_rounds} one after the other: about \
{cost.hours(v.n_epochs):.3g} hours. Fits that cannot win are stopped early.
# Less: psvae-tune recommend --hours …, or sessions imported with a smaller --size.

"""


def _describe_machine(hardware: Hardware) -> str:
    return pluralise(hardware.n_gpus, "GPU") if hardware.n_gpus else "no GPU"


def _write(m: Measures, hardware: Hardware, v: _Values) -> str:
    header = m.header
    n_pixels = math.prod(header.frame_shape)
    curve = m.autocorrelation()
    memory = 1 if curve is None else memory_of(curve)
    gap = "No gap" if v.trial_splits.endswith("0") else "A clip between splits"
    dtype = str(pick_dtype("auto", hardware.device)).removeprefix("torch.")
    across = 0.0 if curve is None else curve[min(m.clip_length // 2, len(curve) - 1)]
    network = json.dumps(v.network) if v.network else "null"
    # On one line, and whatever is in a name escaped as YAML wants it.
    sessions = yaml.safe_dump([v.path], default_flow_style=True, width=math.inf).strip()
    n_redundant = len(redundant_pairs(m))
    return f"""\
experiment_name: recommended

data:
  sessions: {sessions}
  # {gap}: half a clip apart, labels correlate with r = {across:.2f}.
  trial_splits: "{v.trial_splits}"
  rng_seed_data: 0
  # Clips have {m.clip_length} frames. Labels forget themselves in {memory}: \
about {m.clip_length / (2 * memory):.1f} independent stretches a clip.
  # It is decided when importing (--clip-length); 5 or more are better.

model:
  model_class: ps-vae
  # {N_UNSUPERVISED} beside one a label, as in all published fits of one session.
  # {n_redundant} pairs of labels have |r| above {REDUNDANT}; each label takes a latent.
  n_ae_latents: n_labels + {N_UNSUPERVISED}
  ps_vae.alpha: {v.alphas[2]:g}
  ps_vae.beta: 1
  # Half of the epochs, as published.
  ps_vae.anneal_epochs: {v.n_epochs // 2}
  # null: the published network; smaller frames than {SMALL} pixels need less.
  ae_arch_json: {network}

training:
  # {v.n_train_clips} training clips an epoch; {_word_epochs(v)}.
  max_n_epochs: {v.n_epochs}
  # As published.
  learning_rate: 1.0e-4
  # {dtype} on this machine, where matrix products are quickest in it.
  precision: auto
  val_check_interval: {v.val_check_interval}

search:
  stages:
    - name: alpha
      space:
        # {", ".join(f"{c:g}" for c in NORMALISED_ALPHAS)} × {n_pixels} pixels / \
{header.n_labels} labels; published fits: 0.09 to 0.15.
        ps_vae.alpha: {{grid_search: {[float(alpha) for alpha in v.alphas]}}}
      objectives: {{val/frame_mse: min, val/label_r2: max}}
      scheduler: {{asha: {{grace_period: anneal_end, reduction_factor: 3}}}}
      select:
        within: {{metric: val/label_r2, tolerance: 0.05}}
        then: {{ps_vae.alpha: min}}
    - name: beta
      space:
        # The published guide; it does not depend on the size of the frames.
        ps_vae.beta: {{grid_search: {list(BETAS)}}}
      objectives: {{val/latent_correlation: min, val/frame_mse: min}}
      scheduler: {{asha: {{grace_period: anneal_end, reduction_factor: 3}}}}
      select:
        within: {{metric: val/frame_mse, tolerance: 0.2}}
        then: {{val/latent_correlation: min}}
        require: {{val/active_units: all}}
    - name: seeds
      space:
        rng_seed_model: {{grid_search: {list(SEEDS)}}}
      objectives: {{val/frame_mse: min}}
      select: {{best: val/frame_mse, require: {{val/active_units: all}}}}

resources:
  cpus_per_trial: 1
  # {_describe_machine(hardware)}: {_describe_sharing(hardware)}
  gpus_per_trial: auto
  max_concurrent_trials: auto
"""


def _describe_sharing(hardware: Hardware) -> str:
    if not hardware.n_gpus:
        return f"trials run on CPUs, {hardware.n_cpus} at a time."
    return "as many trials share a GPU as fit; the study measures that before it begins."


def _word_epochs(v: _Values) -> str:
    updates = f"{v.n_train_clips * v.n_epochs} updates"
    if v.hours is None:
        return f"{updates} (aimed at {N_STEPS}, within {MIN_EPOCHS} to {MAX_EPOCHS} epochs)"
    return f"{updates}, fewer than is best, to end within {v.hours:g} hours"

"""A search-space file for one recording, with the reason beside each value."""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from psvae_tune.batches import PreparedData, prepare_data
from psvae_tune.config import TrialConfig, parse_trial_config
from psvae_tune.data.findings import ALIKE, REDUNDANT, memory_of, redundant_pairs
from psvae_tune.data.hdf5 import read_session
from psvae_tune.data.measures import Measures, measure_session
from psvae_tune.data.splits import split_clips
from psvae_tune.errors import DataError
from psvae_tune.train import fit, start

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
_MAX_TRIALS_PER_GPU = 4
_N_TIMED_CLIPS = 2


@dataclass(frozen=True, slots=True)
class Hardware:
    """What this machine has."""

    n_cpus: int
    n_gpus: int
    gpu_bytes: int
    """Memory of the smallest; 0 without one."""

    @classmethod
    def of_this_machine(cls) -> "Hardware":
        """Ask the operating system and the driver."""
        gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        memory = min((gpu.total_memory for gpu in gpus), default=0)
        return cls(len(os.sched_getaffinity(0)), len(gpus), memory)

    @property
    def device(self) -> torch.device:
        """Where a trial would run."""
        return torch.device("cuda" if self.n_gpus else "cpu")


def recommend(path: str, progress: Callable[[str], None] | None = None) -> str:
    """Return the text of a search-space file for a recording.

    Parameters
    ----------
    path
        A session with labels.
    progress
        Told what is being done.

    Raises
    ------
    DataError
        If the session cannot be used, or has fewer clips than a study needs.
    """
    tell = progress or (lambda what: None)
    tell("reading frames")
    measures = measure_session(path)
    if not measures.header.n_labels:
        hint = "import it with --pose, or start from search_spaces with a model without labels"
        raise DataError(path, "holds no labels to recommend a PS-VAE for", hint)
    hardware = Hardware.of_this_machine()
    values = _choose(measures, hardware)
    tell("timing a fit")
    seconds = _time_clip(path, values.trial_config(_N_TIMED_CLIPS), hardware)
    return _write(measures, hardware, values, seconds)


@dataclass(frozen=True, slots=True)
class _Values:
    """What is recommended."""

    path: str
    trial_splits: str
    n_latents: int
    alphas: tuple[float, ...]
    n_epochs: int
    n_train_clips: int
    n_trials_per_gpu: int
    network: dict[str, list[int]] | None

    def trial_config(self, n_clips: int) -> TrialConfig:
        """Return settings of a short fit of the same model."""
        return parse_trial_config(
            {
                "model": {
                    "model_class": "ps-vae",
                    "n_ae_latents": self.n_latents,
                    "ps_vae.alpha": self.alphas[0],
                    "ps_vae.beta": 1,
                    "ps_vae.anneal_epochs": 1,
                    "ae_arch_json": self.network,
                },
                "training": {
                    "max_n_epochs": 2,
                    "train_frac": min(n_clips, self.n_train_clips),
                },
                "data": {"sessions": [self.path], "trial_splits": self.trial_splits},
            },
            "recommendation",
        )


def _choose(m: Measures, hardware: Hardware) -> _Values:
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
    # Activations of both halves of the default network, and what autograd keeps of them.
    n_bytes = 4 * m.clip_length * n_pixels * 100 + 2**30
    n_per_gpu = min(_MAX_TRIALS_PER_GPU, max(1, hardware.gpu_bytes // n_bytes))
    is_small = max(header.height, header.width) <= SMALL
    return _Values(
        os.path.abspath(header.path),
        trial_splits,
        header.n_labels + N_UNSUPERVISED,
        alphas,
        n_epochs,
        len(splits.train),
        int(n_per_gpu),
        SMALL_NETWORK if is_small else None,
    )


def _time_clip(path: str, config: TrialConfig, hardware: Hardware) -> float:
    """Return the seconds that one clip takes in training, its share of validation included."""
    data: PreparedData = prepare_data([read_session(path, needs_labels=True)], config)
    state = start(config, data, hardware.device)
    epochs = fit(state, data, config)
    next(epochs)  # the first one also warms up
    began = time.perf_counter()
    next(epochs)
    n_clips = len(data.clips("train")) + len(data.clips("val")) / 3
    return (time.perf_counter() - began) / n_clips


def _write(m: Measures, hardware: Hardware, v: _Values, seconds: float) -> str:
    header = m.header
    n_pixels = math.prod(header.frame_shape)
    curve = m.autocorrelation()
    memory = 1 if curve is None else memory_of(curve)
    n_trials = len(v.alphas) + len(BETAS) + len(SEEDS) - 2  # two are known from earlier stages
    hours = seconds * v.n_train_clips * v.n_epochs / 3600
    at_a_time = hardware.n_gpus * v.n_trials_per_gpu or hardware.n_cpus
    gap = "No gap" if v.trial_splits.endswith("0") else "A clip between splits"
    gpus = f"{1 / v.n_trials_per_gpu:g}" if hardware.n_gpus else "auto"
    machine = f"{hardware.n_gpus} GPUs" if hardware.n_gpus else "no GPU"
    across = 0.0 if curve is None else curve[min(m.clip_length // 2, len(curve) - 1)]
    network = json.dumps(v.network) if v.network else "null"
    n_redundant = len(redundant_pairs(m))
    return f"""\
# Recommended for {json.dumps(os.path.basename(header.path))}: {header.n_frames} frames of \
{"×".join(map(str, header.frame_shape))}, {header.n_labels} labels.
#
# Cost: up to {n_trials} fits of {hours:.2g} hours, measured on this machine ({machine}, \
{hardware.n_cpus} CPUs),
# {at_a_time} at a time: about {hours * n_trials / min(at_a_time, n_trials):.2g} hours. \
Fits that cannot win are stopped early.
# Fewer: --set training.max_n_epochs=…, or sessions imported with a smaller --size.

experiment_name: recommended

data:
  sessions: [{json.dumps(v.path)}]
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
  # {v.n_train_clips} training clips an epoch; about {N_STEPS} updates, within \
{MIN_EPOCHS} to {MAX_EPOCHS} epochs.
  max_n_epochs: {v.n_epochs}
  # As published. Numbers are 32-bit.
  learning_rate: 1.0e-4
  val_check_interval: {max(1, v.n_epochs // 100)}

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
  # {machine}: {_word_share(hardware, v)}
  gpus_per_trial: {gpus}
  max_concurrent_trials: auto
"""


def _word_share(hardware: Hardware, v: _Values) -> str:
    if not hardware.n_gpus:
        return f"trials run on CPUs, {hardware.n_cpus} at a time."
    gigabytes = hardware.gpu_bytes / 2**30
    return f"{v.n_trials_per_gpu} trials fit into {gigabytes:.0f} GB."

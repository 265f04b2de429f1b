"""Recommend a search-space file for one recording, with the reason beside each value.

The values follow from the recording and the published fits, the cost from a short fit on this
machine. The text is that of ``recommended.yaml.j2``, which lies beside this file.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from psvae_tune.cluster.nodes import count_cpus
from psvae_tune.config.study import Study
from psvae_tune.config.wording import pluralise
from psvae_tune.config.yaml_text import dump_yaml, parse_yaml
from psvae_tune.data.autocorrelation import memory_of
from psvae_tune.data.quality_findings import ALIKE, N_UNSUPERVISED, REDUNDANT, redundant_pairs
from psvae_tune.data.quality_measures import Measures, measure_session
from psvae_tune.data.session import SessionHeader
from psvae_tune.data.splits import split_clips
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.files import is_url
from psvae_tune.metrics.capacity import STRONG, Capacity
from psvae_tune.study.estimate import estimate_epochs
from psvae_tune.study.plan import make_plan
from psvae_tune.study.study_cost import measure_study
from psvae_tune.training.precision import measure_seconds, pick_dtype

NORMALISED_ALPHAS = (0.01, 0.03, 0.1, 0.3)
"""Values of α·σ² · n_labels / n_pixels; the published fits of one session have 0.09 to 0.15."""
MAX_UNSUPERVISED = 4
"""Largest number of unsupervised latents; the traversals of more are hard to tell apart."""
N_UPDATES = 8000
"""Number of updates of the weights that a fit should have."""
MIN_EPOCHS, MAX_EPOCHS = 100, 500
SMALL = 48
"""Number of pixels of the longer side of a frame up to which `SMALL_NETWORK` is enough."""
SMALL_NETWORK = {
    "ae_encoding_n_channels": [16, 32, 64],
    "ae_encoding_kernel_size": [5, 5, 5],
    "ae_encoding_stride_size": [2, 2, 2],
}


@dataclass(frozen=True, slots=True)
class Hardware:
    """Processors of a machine."""

    n_cpus: int
    n_gpus: int

    @classmethod
    def of_this_machine(cls) -> "Hardware":
        """Count the CPUs that this process may use, and the GPUs."""
        return cls(count_cpus(), torch.cuda.device_count())

    @property
    def device(self) -> torch.device:
        """Device that a trial would run on."""
        return torch.device("cuda" if self.n_gpus else "cpu")


@dataclass(frozen=True, slots=True)
class Cost:
    """Time that a study takes on this machine."""

    epoch_s: float
    """Seconds that one fit takes for an epoch."""
    n_fits: int
    """Largest number of fits of all stages together."""
    n_at_a_time: int
    """Number of fits that run beside each other, each as quick as alone."""
    n_rounds: int
    """Number of fits that are trained one after the other."""

    def hours(self, n_epochs: int) -> float:
        """Return the hours that the whole study takes with ``n_epochs`` epochs a fit."""
        return self.epoch_s * n_epochs * self.n_rounds / 3600

    def count_affordable(self, hours: float) -> int:
        """Return how many epochs a fit may have for the study to end within ``hours``.

        Raises
        ------
        ConfigError
            If a fit may have fewer than `MIN_EPOCHS`.
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


@dataclass(frozen=True, slots=True)
class Values:
    """Settings recommended for a recording, and the numbers that their reasons quote."""

    path: str
    trial_splits: str
    half_clip_correlation: float
    """Correlation of labels with themselves half a clip later, the median over labels."""
    clip_length: int
    """Number of frames in a usual clip."""
    memory: int
    """Number of frames after which labels are no longer like themselves."""
    n_redundant: int
    """Number of pairs of labels that say the same."""
    n_pixels: int
    """Number of pixels of a frame, all channels together."""
    components: tuple[float, ...]
    """Strongest principal variances of what the labels leave of the frames."""
    n_unsupervised: int
    decoder_variance: float
    variances: tuple[float, ...]
    """Values of the decoder variance that validation frames choose from."""
    alphas: tuple[float, ...]
    n_epochs: int
    val_check_interval: int
    """Number of epochs from one validation to the next."""
    n_train_clips: int
    network: dict[str, list[int]] | None
    """An architecture for small frames; None for the published one."""
    hours: float | None = None
    """Hours that the number of epochs was cut for; None if it was not cut."""

    @property
    def strengths(self) -> str:
        """The components with two digits, as a list."""
        return ", ".join(f"{value:.2g}" for value in self.components)

    @property
    def n_active_at_one(self) -> int:
        """Number of unsupervised latents that could be active at the published variance."""
        return sum(value > 1 for value in self.components[: self.n_unsupervised])

    @property
    def n_updates(self) -> int:
        """Number of updates of the weights in a whole fit."""
        return self.n_train_clips * self.n_epochs


def recommend_study(
    path: str, hours: float | None = None, progress: Callable[[str], None] | None = None
) -> str:
    """Write a search-space file for a recording.

    Parameters
    ----------
    path
        Path or URL of a recording with labels.
    hours
        Time that the study may take on this machine; fits get fewer epochs if need be.
    progress
        Called with the name of each step as it begins.

    Returns
    -------
    str
        Text of a search-space file, with the reason beside each value.

    Raises
    ------
    DataError
        If the session cannot be used, or has fewer clips than a study needs.
    ConfigError
        If ``hours`` are too few for any study.
    """
    tell = progress or (lambda step: None)
    tell("reading frames")
    measures = measure_session(path)
    if not measures.header.n_labels:
        hint = "import it with --pose, or start from search_spaces with a model without labels"
        raise DataError(path, "holds no labels to recommend a PS-VAE for", hint)
    hardware = Hardware.of_this_machine()
    values = choose_values(measures)
    tell("timing a fit")
    cost = _measure_cost(render(measures.header, hardware, values))
    if hours is not None and (n_epochs := cost.count_affordable(hours)) < values.n_epochs:
        values = replace(values, n_epochs=n_epochs, hours=hours)
    return render(measures.header, hardware, values, cost)


def choose_values(measures: Measures) -> Values:
    """Return the values that suit a recording."""
    header, capacity = measures.header, measures.capacity
    if isinstance(capacity, DataError):
        raise DataError(header.path, capacity.problems, capacity.hint)
    curve = measures.autocorrelation()
    correlation, memory = 0.0, 1
    if curve is not None:
        correlation = float(curve[min(measures.clip_length // 2, len(curve) - 1)])
        memory = memory_of(curve)
    has_gaps = correlation > ALIKE and header.n_clips >= 13
    trial_splits = "8;1;1;1" if has_gaps else "8;1;1;0"
    n_train_clips = len(split_clips(header.n_clips, trial_splits, 0, where=header.path).train)
    n_epochs = round(N_UPDATES / n_train_clips / 50) * 50
    n_epochs = min(max(n_epochs, MIN_EPOCHS), MAX_EPOCHS)
    n_pixels = math.prod(header.frame_shape)
    n_unsupervised = count_unsupervised(capacity)
    variance = _round(capacity.choose_variance(n_unsupervised))
    return Values(
        path=header.path if is_url(header.path) else os.path.abspath(header.path),
        trial_splits=trial_splits,
        half_clip_correlation=correlation,
        clip_length=measures.clip_length,
        memory=memory,
        n_redundant=len(redundant_pairs(measures)),
        n_pixels=n_pixels,
        components=tuple(capacity.residual[: n_unsupervised + 1].tolist()),
        n_unsupervised=n_unsupervised,
        decoder_variance=variance,
        variances=tuple(dict.fromkeys((variance, _round(math.sqrt(variance))))),
        alphas=tuple(
            _round(alpha * n_pixels / header.n_labels / variance) for alpha in NORMALISED_ALPHAS
        ),
        n_epochs=n_epochs,
        val_check_interval=max(1, n_epochs // 100),
        n_train_clips=n_train_clips,
        network=SMALL_NETWORK if max(header.height, header.width) <= SMALL else None,
    )


def count_unsupervised(capacity: Capacity) -> int:
    """Return how many unsupervised latents suit a recording.

    They are as many as components that keep nine tenths of their variance at the published σ² of
    1, but 2 at least, as in published fits, unless the second is no stronger than noise.
    """
    strong = capacity.count_active(STRONG)
    n_latents = min(max(strong, N_UNSUPERVISED), MAX_UNSUPERVISED)
    while n_latents > 1 and not capacity.stands_out(n_latents):
        n_latents -= 1
    return n_latents


def _round(value: float) -> float:
    return float(f"{value:.1g}")


def render(
    header: SessionHeader, hardware: Hardware, values: Values, cost: Cost | None = None
) -> str:
    """Return the text of the search-space file; its cost stands on top if it is known."""
    environment = Environment(
        loader=PackageLoader("psvae_tune.study", ""),
        autoescape=False,  # it is YAML
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {
        "REDUNDANT": REDUNDANT,
        "SMALL": SMALL,
        "N_UPDATES": N_UPDATES,
        "MIN_EPOCHS": MIN_EPOCHS,
        "MAX_EPOCHS": MAX_EPOCHS,
        "NORMALISED_ALPHAS": NORMALISED_ALPHAS,
        "pluralise": pluralise,
    }
    return environment.get_template("recommended.yaml.j2").render(
        header=header,
        hardware=hardware,
        values=values,
        cost=cost,
        file_name=json.dumps(os.path.basename(header.path)),
        # The list stands on one line, and YAML escapes whatever a name holds.
        sessions=dump_yaml([values.path], flow=True).strip(),
        network=json.dumps(values.network),
        dtype=str(pick_dtype("auto", hardware.device)).removeprefix("torch."),
        milliseconds={k: f"{1000 * v:.2g}" for k, v in measure_seconds(hardware.device).items()},
        machine=pluralise(hardware.n_gpus, "GPU") if hardware.n_gpus else "no GPU",
    )


def _measure_cost(text: str) -> Cost:
    plan = make_plan(parse_yaml(text, "recommendation"), "recommendation")
    found = measure_study(plan)
    n_fits, n_rounds = (_count_fits(plan.study, n) for n in (1, found.n_slots))
    return Cost(found.epoch_s, n_fits, found.n_slots, n_rounds)


def _count_fits(study: Study, n_slots: int) -> int:
    """Return how many fits of full length a study trains one after the other."""
    n_epochs = estimate_epochs(study, n_slots).n_epochs
    assert n_epochs is not None
    return n_epochs // study.base.training.max_n_epochs

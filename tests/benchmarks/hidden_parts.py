"""Do unsupervised latents find a part of a real animal that was tracked and that no model saw?

    python -m tests.benchmarks.hidden_parts FOLDER [--epochs 60] [--repetitions 2]
                                            [--only NAME …] [--betas 1 5]

Hides one part of each recording of the shared data and fits, from new weights and with the small
network of ``ps_vae.yaml``: a PS-VAE at the published variance and at the one that ``auto`` takes,
at each beta, with the same α·σ²; a plain VAE at the second variance with as many latents in all;
and a conditional autoencoder with as many unsupervised ones. Beside them stand principal
components of what the other labels leave, the baseline that every study has.

Each repetition has other splits and other initial weights. A part that stands still cannot be
found, so only splits count in which it moves on validation clips as on all. These are scored.

Fits lie in FOLDER and are not made again. They use a GPU if there is one. Prints a Markdown table.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from psvae_tune.api.models import fit
from psvae_tune.config.trial import TrialConfig, parse_trial_config
from psvae_tune.data.frame_capacity import measure_sessions, set_decoder_variance
from psvae_tune.data.session import Session
from psvae_tune.data.session_file import read_session
from psvae_tune.data.splits import split_clips
from psvae_tune.training.baselines import measure_baselines
from tests.benchmarks.search_efficiency import read_space
from tests.support.small_models import SHARED
from tests.support.weight_grid import mean_and_error

PARTS = {
    "mirror_mouse/mirror_mouse_64.h5": ("paw4RH_bot_x", "paw4RH_bot_y"),
    "fly_pair/fly_pair_track0_96.h5": ("wingL_x", "wingL_y"),
    "flies13/flies13_track0_96.h5": ("wingL_x", "wingL_y"),
    "face_mouse/face_mouse_112.h5": ("pawL_x", "pawL_y"),
}
SMALL = read_space("ps_vae.yaml")["model"]["ae_arch_json"]
SPLITS = "3;1;1;0"
ALPHA_NORMALISED = 0.12
"""α · σ² · labels / pixels, in the middle of those of the published fits."""
N_OTHERS = 2
"""Number of unsupervised latents beside those of the hidden labels."""
METRICS = ("hidden_correlation", "hidden_r2", "hidden_gain", "frame_mse", "active_units")


@cache
def load(file: str) -> Session:
    """Return a recording."""
    return read_session(SHARED / "data" / file, needs_labels=True)


def moving_splits(file: str) -> Iterator[int]:
    """Yield the seeds of splits in which the hidden part moves on validation clips."""
    session, columns = load(file), hidden_columns(file)
    values = np.where(session.label_masks[:, columns], session.labels[:, columns], np.nan)
    whole = np.nanvar(values, axis=0)
    for seed in count():
        clips = split_clips(session.header.n_clips, SPLITS, seed).val
        seen = np.concatenate([values[session.clip(clip)] for clip in clips])
        if (np.nanvar(seen, axis=0) > whole / 2).all():
            yield seed


def hidden_columns(file: str) -> list[int]:
    """Return where the hidden labels stand among all."""
    return [load(file).header.label_names.index(name) for name in PARTS[file]]


@dataclass(frozen=True)
class Case:
    """A recording with a split."""

    file: str
    seed: int
    n_epochs: int

    @property
    def n_seen(self) -> int:
        """Number of labels that models see."""
        return load(self.file).header.n_labels - len(PARTS[self.file])

    @property
    def n_unsupervised(self) -> int:
        """Number of unsupervised latents."""
        return N_OTHERS + len(PARTS[self.file])

    def settings(self, **model: Any) -> dict[str, Any]:
        """Return settings of a fit."""
        return {
            "ae_arch_json": SMALL,
            "rng_seed_model": self.seed,
            "trial_splits": SPLITS,
            "rng_seed_data": self.seed,
            "max_n_epochs": self.n_epochs,
            "learning_rate": 1e-3,
            "hidden_labels": list(PARTS[self.file]),
            **model,
        }

    def ps_vae(self, variance: float | str, beta: float) -> dict[str, Any]:
        """Return settings of a PS-VAE; its alpha is that at a variance of 1 if this is a word."""
        height, width = load(self.file).header.frame_shape[-2:]
        alpha = ALPHA_NORMALISED * height * width / self.n_seen
        return self.settings(
            **{
                "model_class": "ps-vae",
                "n_ae_latents": self.n_seen + self.n_unsupervised,
                "decoder_variance": variance,
                "ps_vae.alpha": round(alpha if isinstance(variance, str) else alpha / variance, 1),
                "ps_vae.beta": beta,
                "ps_vae.anneal_epochs": self.n_epochs // 3,
            }
        )

    def config(self) -> TrialConfig:
        """Return a configuration whose variance was taken from the frames."""
        flat, sections = self.ps_vae("auto", 1), {}
        in_data = ("trial_splits", "rng_seed_data", "hidden_labels")
        in_training = ("max_n_epochs", "learning_rate")
        sections["data"] = {"sessions": [self.file]} | {name: flat.pop(name) for name in in_data}
        sections["training"] = {name: flat.pop(name) for name in in_training}
        config = parse_trial_config(sections | {"model": flat}, "benchmark")
        session = load(self.file)
        capacity = measure_sessions([session], config)
        return set_decoder_variance(config, capacity, session.header.n_labels)


def score(settings: Mapping[str, Any], file: str) -> dict[str, float]:
    """Fit, and return the metrics of validation clips."""
    begin = time.monotonic()
    found = fit(load(file), settings).metrics
    kept = {key.removeprefix("val/"): v for key, v in found.items() if key.startswith("val/")}
    return kept | {"seconds": time.monotonic() - begin}


def find_components(config: TrialConfig, file: str) -> dict[str, float]:
    """Return the metrics of principal components of what the other labels leave."""
    found = measure_baselines([load(file)], config, [PARTS[file]])
    scores = {name: found.get(f"components_{name}") for name in METRICS}
    scores["frame_mse"] = found["residual_pca_frame_mse"]
    return {name: score for name, score in scores.items() if score is not None}


def list_fits(case: Case, betas: Sequence[float]) -> dict[str, Callable[[], dict[str, float]]]:
    """Return what is scored on a case, each by its name."""
    config = case.config()
    variance = float(config.params["decoder_variance"])
    # All see the recording through the same number of unsupervised latents but the VAE, which has
    # no others.
    vae = case.settings(
        model_class="vae",
        n_ae_latents=case.n_seen + case.n_unsupervised,
        decoder_variance=variance,
    )
    cond_ae = case.settings(model_class="cond-ae", n_ae_latents=case.n_unsupervised)
    fits = {
        f"PS-VAE, σ² {name}, β {beta:g}": case.ps_vae(value, beta)
        for name, value in (("1", 1.0), ("auto", variance))
        for beta in betas
    } | {"VAE, σ² auto": vae, "conditional AE": cond_ae}

    def fitted(settings: Mapping[str, Any]) -> Callable[[], dict[str, float]]:
        return lambda: score(settings, case.file)

    scored = {name: fitted(settings) for name, settings in fits.items()}
    return {"components beside labels": lambda: find_components(config, case.file)} | scored


def run(case: Case, betas: Sequence[float], folder: Path) -> dict[str, dict[str, float]]:
    """Return the scores of a case. Side effects: writes those that are new to the folder."""
    path = folder / f"{Path(case.file).stem}-{case.seed}-{case.n_epochs}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for name, make in list_fits(case, betas).items():
        if name not in found:
            found[name] = make()
            path.write_text(json.dumps(found, indent=1))
            print(path.stem, name, found[name], file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--betas", type=float, nargs="+", default=[1.0, 5.0])
    parser.add_argument("--only", nargs="*", default=[], help="words of names of recordings")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    print(f"| recording, hidden part | model | {' | '.join(METRICS)} |")
    print("|---" * (len(METRICS) + 2) + "|")
    for file, hidden in PARTS.items():
        if options.only and not any(word in file for word in options.only):
            continue
        found = [
            run(Case(file, seed, options.epochs), options.betas, options.folder)
            for seed in islice(moving_splits(file), options.repetitions)
        ]
        for name in found[0]:
            cells = [
                mean_and_error([one[name][key] for one in found if key in one[name]])
                for key in METRICS
            ]
            title = f"{Path(file).stem}, {hidden[0].removesuffix('_x')}"
            print(f"| {title} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""How many latents do real recordings keep active, and is it as predicted?

    python -m tests.benchmarks.capacity [--fit] [--variances 1 …] [--epochs N] [--seeds 0 …]
                                        [--only NAME …] [--out FILE.json]

Prints a Markdown table with a row a recording of the shared data: the strongest principal
variances of the frames and of what the labels leave of them, and the unsupervised latents that are
predicted to be active at variance 1 and at the recommended one. With ``--fit``, the recommended
settings are fitted at each of these variances and of ``--variances``, on a GPU if there is one,
and the active latents of the validation frames stand beside those predicted. Writes every number
to a JSON file after each fit; a fit that stands there already is not repeated.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from psvae_tune.api.models import fit
from psvae_tune.data.quality_measures import measure_session
from psvae_tune.metrics.capacity import Capacity
from psvae_tune.study.recommend import Hardware, choose_values, render
from tests.support.small_models import SHARED

KEPT = ("frame_mse", "label_r2", "active_units", "leak_r2", "latent_correlation")
N_SHOWN = 4


def list_recordings(only: list[str]) -> list[Path]:
    """Return the recordings of the shared data, all or those whose name holds one of the words."""
    paths = sorted((SHARED / "data").glob("[!p]*/*.h5"))
    return [path for path in paths if not only or any(word in path.stem for word in only)]


def measure(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the capacity of a recording, and the settings recommended for a fit of it."""
    measures = measure_session(str(path))
    capacity = measures.capacity
    assert isinstance(capacity, Capacity)
    values = choose_values(measures)
    study = yaml.safe_load(render(measures.header, Hardware.of_this_machine(), values))
    settings = study["model"] | study["training"]
    settings |= {name: study["data"][name] for name in ("trial_splits", "rng_seed_data")}
    variances = dict.fromkeys([1.0, values.decoder_variance])
    row = {
        "recording": path.stem,
        "shape": list(measures.header.frame_shape),
        "n_labels": measures.header.n_labels,
        "frames": capacity.frames[:20].tolist(),
        "residual": capacity.residual[:20].tolist(),
        "n_frames_above_1": int((capacity.frames > 1).sum()),
        "left": capacity.left / capacity.total,
        "noise": capacity.noise(values.n_unsupervised),
        "n_unsupervised": values.n_unsupervised,
        "variance": values.decoder_variance,
        "n_above": {f"{v:g}": capacity.count_active(v) for v in variances},
        "fits": {},
    }
    return row, settings


def settings_at(settings: dict[str, Any], variance: float) -> dict[str, Any]:
    """Return settings with another variance and as much say of the labels."""
    alpha = settings["ps_vae.alpha"] * settings["decoder_variance"] / variance
    return settings | {"decoder_variance": variance, "ps_vae.alpha": alpha}


def fit_all(
    rows: list[dict[str, Any]],
    settings: dict[str, dict[str, Any]],
    paths: dict[str, Path],
    options: argparse.Namespace,
    others: list[dict[str, Any]],
) -> None:
    """Fit recordings at every variance and seed. Side effects: fills the rows, and writes them."""
    for row in rows:
        name = row["recording"]
        for variance in dict.fromkeys([1.0, row["variance"], *options.variances]):
            for seed in options.seeds:
                key = f"variance {variance:g} seed {seed}"
                if key in row["fits"]:
                    continue
                given = settings_at(settings[name], variance) | {"rng_seed_model": seed}
                if options.epochs:
                    given |= {
                        "max_n_epochs": options.epochs,
                        "ps_vae.anneal_epochs": options.epochs // 2,
                    }
                begin = time.monotonic()
                found = fit(paths[name], given)
                row["fits"][key] = {
                    "variance": variance,
                    "seed": seed,
                    "alpha": given["ps_vae.alpha"],
                    "n_epochs": given["max_n_epochs"],
                    "seconds": round(time.monotonic() - begin, 1),
                    **{
                        f"{split}/{metric}": found.metrics[f"{split}/{metric}"]
                        for split in ("val", "test")
                        for metric in KEPT
                        if f"{split}/{metric}" in found.metrics
                    },
                }
                print(f"{name} {key}: {row['fits'][key]}", file=sys.stderr, flush=True)
                options.out.write_text(json.dumps(rows + others, indent=1))


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Return the table of all recordings."""
    lines = [
        "| recording | labels | λ of the frames | λ beside the labels | left | > 1 | latents "
        "predicted at 1 | recommended σ² | latents predicted there |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        n_latents = row["n_unsupervised"]
        frames, residual = (
            ", ".join(f"{value:.2g}" for value in row[name][:N_SHOWN])
            for name in ("frames", "residual")
        )
        predicted = [
            f"{min(n_latents, row['n_above'][f'{v:g}'])} of {n_latents}"
            for v in (1.0, row["variance"])
        ]
        lines.append(
            f"| {row['recording']} {'×'.join(map(str, row['shape']))} | {row['n_labels']} | "
            f"{frames} | {residual} | {row['left']:.0%} | {row['n_frames_above_1']} / "
            f"{row['n_above']['1']} | {predicted[0]} | {row['variance']:g} | {predicted[1]} |"
        )
    return "\n".join(lines)


def tabulate_fits(rows: list[dict[str, Any]]) -> str:
    """Return the table of the fits, predicted and found."""
    lines = [
        "| recording | σ² | α | seed | active, predicted | active, found | val frame MSE | "
        "val label R² | val leak R² | s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for item in row["fits"].values():
            above = sum(value > item["variance"] for value in row["residual"])
            cells = [
                row["recording"],
                f"{item['variance']:g}",
                f"{item['alpha']:.3g}",
                str(item["seed"]),
                f"{min(above, row['n_unsupervised'])} of {row['n_unsupervised']}",
                f"{item['val/active_units']:g}",
                f"{item['val/frame_mse']:.5f}",
                f"{item['val/label_r2']:.3f}",
                f"{item['val/leak_r2']:.3f}",
                f"{item['seconds']:.0f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, fit if asked to, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", action="store_true", help="fit, too")
    parser.add_argument("--variances", type=float, nargs="*", default=[], help="further σ² to fit")
    parser.add_argument("--epochs", type=int, help="default: those recommended")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="*", default=[], help="words of names of recordings")
    parser.add_argument("--out", type=Path, default=Path("capacity.json"))
    options = parser.parse_args()
    kept = json.loads(options.out.read_text()) if options.out.exists() else []
    known = {row["recording"]: row["fits"] for row in kept}
    paths = {path.stem: path for path in list_recordings(options.only)}
    rows, settings = [], {}
    for name, path in paths.items():
        row, settings[name] = measure(path)
        rows.append(row | {"fits": known.get(name, {})})
    others = [row for row in kept if row["recording"] not in paths]
    print(tabulate(rows))
    options.out.write_text(json.dumps(rows + others, indent=1))
    if options.fit:
        fit_all(rows, settings, paths, options, others)
        print("\n" + tabulate_fits(rows))


if __name__ == "__main__":
    main()

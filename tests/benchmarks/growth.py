"""How does the cost of a training step grow?

    python -m tests.benchmarks.growth

Takes steps of the PS-VAE with the published network on noise, one thing growing at a time: frames
of a batch, pixels of a frame, latents. Beside the step stands what of it the terms over pairs of
frames take, forwards and backwards. There are as many pairs as the square of the frames. Prints a
Markdown table of processor seconds, the best of three, and writes ``growth.json``. Five minutes on
one core.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

from psvae_tune.config.study import parse_study
from psvae_tune.models.batch import Batch, DataShape
from psvae_tune.models.layers.blocks import train_convolutions_in
from psvae_tune.models.losses import decompose_kl
from psvae_tune.models.registry import build_model
from psvae_tune.training.precision import pick_dtype
from tests.support.command import ROOT

CPU = torch.device("cpu")
N_LABELS = 4
# Frames of a batch, pixels of a side, unsupervised latents.
GROWING = {
    "frames": [(n, 64, 4) for n in (100, 200, 400, 800, 1600)],
    "pixels": [(200, size, 4) for size in (32, 64, 128)],
    "latents": [(200, 64, n) for n in (2, 4, 8, 16)],
}


def clock(step: Callable[[], object]) -> float:
    """Return the processor seconds of a call, the best of three after one that warms up."""
    found = []
    for _ in range(4):
        begin = time.process_time()
        step()
        found.append(time.process_time() - begin)
    return min(found[1:])


def time_step(n_frames: int, size: int, n_unsupervised: int) -> dict[str, float]:
    """Return the seconds of a step, and of its terms over pairs of frames."""
    raw = yaml.safe_load((ROOT / "search_spaces" / "ps_vae_published.yaml").read_text())
    raw["model"] |= {"ae_arch_json": None, "n_ae_latents": N_LABELS + n_unsupervised}
    config = parse_study(raw, "ps_vae_published.yaml", N_LABELS).base
    model = build_model(config.model, DataShape(1, size, size, N_LABELS, 1)).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train_convolutions_in(pick_dtype("auto", CPU), model)
    rng = torch.Generator().manual_seed(0)
    batch = Batch(
        frames=torch.rand(n_frames, 1, size, size, generator=rng),
        labels=torch.randn(n_frames, N_LABELS, generator=rng),
    )
    latents = torch.randn(3, n_frames, n_unsupervised, generator=rng, requires_grad=True)

    def step() -> None:
        model.zero_grad()
        model.terms(batch, 1.0, rng).loss.backward()  # type: ignore[no-untyped-call]

    def pairs() -> None:
        terms = decompose_kl(*latents)
        (terms.icmi + terms.tc + terms.dwkl).backward()  # type: ignore[no-untyped-call]

    return {"step": clock(step), "pairs": clock(pairs)}


def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    rows = {sizes: time_step(*sizes) for series in GROWING.values() for sizes in series}
    print("| growing | frames | pixels | unsupervised latents | step | of it over pairs |")
    print("|---|---|---|---|---|---|")
    for name, series in GROWING.items():
        for sizes in series:
            n_frames, size, n_latents = sizes
            step, pairs = rows[sizes]["step"], rows[sizes]["pairs"]
            cells = [name, str(n_frames), f"{size}×{size}", str(n_latents)]
            print(f"| {' | '.join(cells)} | {step:.2f} s | {100 * pairs / step:.1f} % |")
    report = [{"sizes": sizes, **row} for sizes, row in rows.items()]
    Path("growth.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

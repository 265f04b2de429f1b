"""Small models of every kind, and the outputs of the reference implementation."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from psvae_tune.config.model import MODEL_CONFIGS, ModelConfig
from psvae_tune.models.batch import Batch, DataShape

SHARED = Path(
    os.environ.get("PSVAE_TUNE_SHARED", Path(__file__).resolve().parents[2].parent / "shared")
)
SMALL = {
    "ae_encoding_n_channels": [4, 6],
    "ae_encoding_kernel_size": [5, 5],
    "ae_encoding_stride_size": [2, 5],
}
WEIGHTS = {
    "cond-ae-msp": {"msp.alpha": 0.1},
    "beta-tcvae": {"beta_tcvae.beta": 3.0},
    "ps-vae": {"ps_vae.alpha": 10.0, "ps_vae.beta": 2.0},
    "msps-vae": {
        "ps_vae.alpha": 10.0,
        "ps_vae.beta": 2.0,
        "ps_vae.delta": 5.0,
        "n_background": 2,
    },
}
# Every model, and every variant of one.
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"model_class": name} for name in MODEL_CONFIGS},
    "ae linear": {"model_class": "ae", "model_type": "linear"},
    "cond-ae conditional encoder": {"model_class": "cond-ae", "conditional_encoder": True},
    "cond-vae conditional encoder": {"model_class": "cond-vae", "conditional_encoder": True},
}
SHAPE = DataShape(n_channels=1, height=12, width=17, n_labels=4, n_sessions=2)


def make_config(model_class: str, architecture: Any = None, **settings: Any) -> ModelConfig:
    return MODEL_CONFIGS[model_class].model_validate(
        {
            "model_class": model_class,
            "n_ae_latents": 8,
            "ae_arch_json": SMALL if architecture is None else architecture,
            **WEIGHTS.get(model_class, {}),
            **settings,
        }
    )


def make_batch(shape: DataShape = SHAPE, n_frames: int = 10, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    frames = torch.rand(n_frames, shape.n_channels, shape.height, shape.width, generator=rng)
    labels = torch.randn(n_frames, shape.n_labels, generator=rng)
    labels_sc = torch.rand(n_frames, shape.n_labels, generator=rng) * 11
    return Batch(
        frames=frames,
        labels=labels,
        labels_sc=labels_sc,
        session_index=torch.arange(n_frames) % shape.n_sessions,
    )


@dataclass(frozen=True)
class Reference:
    meta: dict[str, Any]
    state: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]


def read_reference(path: Path) -> Reference:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(str(arrays.pop("meta")))
    state = {
        name.removeprefix("state/"): arrays.pop(name)
        for name in list(arrays)
        if name.startswith("state/")
    }
    return Reference(meta, state, arrays)


REFERENCE_FILES = sorted((SHARED / "reference").glob("*.npz"))
NO_REFERENCE = pytest.mark.skipif(
    not REFERENCE_FILES, reason="no reference files; set PSVAE_TUNE_SHARED to their folder"
)

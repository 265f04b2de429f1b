"""Small recordings, settings and stages for tests."""

import numpy as np

from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.config.settings import setting_names
from psvae_tune.config.stage import Stage
from psvae_tune.config.trial import parse_trial_config
from psvae_tune.data.session import Session, SessionHeader

ARCHITECTURE = {
    "ae_encoding_n_channels": [4, 8],
    "ae_encoding_kernel_size": [5, 5],
    "ae_encoding_stride_size": [2, 2],
}


def make_session(seed=0, lengths=(12,) * 10, size=12, n_labels=2, masked=0.0):
    """Return a blob that moves over noise, its position being the labels."""
    rng = np.random.default_rng(seed)
    n_frames = sum(lengths)
    labels = rng.uniform(3, size - 3, (n_frames, n_labels)).astype(np.float32)
    y, x = np.mgrid[:size, :size]
    blob = np.exp(-((x - labels[:, 0, None, None]) ** 2 + (y - labels[:, 1, None, None]) ** 2) / 4)
    frames = (255 * np.clip(0.8 * blob + 0.1 * rng.random(blob.shape), 0, 1)).astype(np.uint8)
    valid = rng.random(labels.shape) >= masked
    header = SessionHeader(
        path=f"session_{seed}.h5",
        clip_names=tuple(f"trial_{index:04}" for index in range(len(lengths))),
        clip_lengths=tuple(lengths),
        n_channels=1,
        height=size,
        width=size,
        label_names=tuple(f"label_{index}" for index in range(n_labels)),
        has_label_masks=masked > 0,
        has_labels_sc=False,
        has_frame_masks=False,
    )
    return Session(
        header, frames[:, None], np.where(valid, labels, 0), valid, None, None, f"digest{seed}"
    )


def make_config(model=None, training=None, data=None):
    """Return settings of a ps-vae, or of another model, that trains in a moment."""
    base = {
        "model_class": "ps-vae",
        "n_ae_latents": 4,
        "ps_vae.alpha": 10,
        "ps_vae.beta": 2,
        "ps_vae.anneal_epochs": 2,
        "ae_arch_json": ARCHITECTURE,
    }
    given = model or {}
    known = setting_names(MODEL_CONFIGS[given.get("model_class", "ps-vae")])
    base = {name: value for name, value in base.items() if name in known}
    raw = {
        "model": {**base, **given},
        "training": {"max_n_epochs": 4, "learning_rate": 3e-3, **(training or {})},
        "data": data or {},
    }
    return parse_trial_config(raw, "test")


def make_stage(**settings):
    """Return a stage that varies the weight on the labels."""
    space = {"ps_vae.alpha": {"grid_search": [10, 20]}}
    raw = {"name": "alpha", "space": space, "objectives": {"val/frame_mse": "min"}}
    return Stage.model_validate(raw | settings)

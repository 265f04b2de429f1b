"""How trials are called."""

from collections.abc import Mapping
from typing import Any


def name_trial(params: Mapping[str, Any]) -> str:
    """Return a short name for what varies in a trial, for example ``alpha=500 seed=0``."""
    short = {"rng_seed_model": "seed", "n_ae_latents": "latents"}
    return " ".join(
        f"{short.get(name, name.rpartition('.')[2])}={value:g}"
        if isinstance(value, float)
        else f"{short.get(name, name.rpartition('.')[2])}={value}"
        for name, value in params.items()
    )

"""How trials and numbers of things are called."""

from collections.abc import Iterable, Mapping
from typing import Any


def name_trial(params: Mapping[str, Any], rung: str | None = None) -> str:
    """Return a short name for what varies in a trial, for example ``alpha=500 seed=0``.

    ``rung`` is how much shorter than others it is, for example ``1/3``.
    """
    short = {"rng_seed_model": "seed", "n_ae_latents": "latents"}
    name = " ".join(
        f"{short.get(name, name.rpartition('.')[2])}={value:g}"
        if isinstance(value, float)
        else f"{short.get(name, name.rpartition('.')[2])}={value}"
        for name, value in params.items()
    )
    return f"{name} at {rung} of the epochs" if rung else name


def pluralise(to_digits: float, what: str) -> str:
    """Return how many there are of something, for example ``1 trial`` or ``2 trials``."""
    return f"{to_digits:.12g} {what}{'' if to_digits == 1 else 's'}"


def to_digits(value: float) -> str:
    """Return a number to four digits."""
    return f"{value:.4g}"


def quote(name: str) -> str:
    """Return the name of a metric or a hyperparameter between backticks."""
    return f"`{name}`"


def and_list(items: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last

"""Word names of trials, numbers and lists for people."""

import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

_PLAIN_NUMBER = r"\d+(\.\d+)?"


def name_trial(
    params: Mapping[str, Any],
    rung: str | None = None,
    n_digits: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """Return the short name of a trial, for example ``alpha=500 seed=0``.

    Parameters
    ----------
    params
        Hyperparameters that the stage of the trial varies.
    rung
        Share of the epochs that a shorter trial trains, for example ``1/3``; None for all.
    n_digits
        Number of digits that a hyperparameter has before its point, zeros in front included, so
        that names sort as numbers do; of one that is left out, as many as there are.
    """
    short = {"rng_seed_model": "seed", "n_ae_latents": "latents", "hidden_labels": "hidden"}
    name = " ".join(
        f"{short.get(name, name.rpartition('.')[2])}={_to_word(value, n_digits.get(name, 1))}"
        for name, value in params.items()
    )
    return f"{name} at {rung} of the epochs" if rung else name


def without_zeros(name: str) -> str:
    """Return the name of a trial with as many digits as its numbers have."""
    return re.sub(rf"(?<!hidden)=0+(?={_PLAIN_NUMBER}( |$))", "=", name)


def _to_word(value: Any, n_digits: int) -> str:
    """Return a value as one word: names with commas between them, ``none`` for no name."""
    if isinstance(value, str) and value.startswith("["):
        value = json.loads(value)  # as settings hold lists
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    whole, point, rest = text.partition(".")
    return f"{whole.zfill(n_digits)}{point}{rest}" if re.fullmatch(_PLAIN_NUMBER, text) else text


def pluralise(number: float, what: str) -> str:
    """Return a number of things, for example ``1 trial`` or ``2 trials``."""
    return f"{number:.12g} {what}{'' if number == 1 else 's'}"


def to_digits(value: float) -> str:
    """Return a number with four digits."""
    return f"{value:.4g}"


def quote(name: str) -> str:
    """Return the name of a metric or a hyperparameter between backticks."""
    return f"`{name}`"


def and_list(items: Iterable[str]) -> str:
    """Return items as a list in words, for example ``a, b and c``."""
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last

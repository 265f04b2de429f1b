"""How numbers and lists are written in the reasons of a selection."""

from collections.abc import Iterable


def number(value: float) -> str:
    """Return a number to four digits."""
    return f"{value:.4g}"


def quote(name: str) -> str:
    """Return the name of a metric or a hyperparameter between backticks."""
    return f"`{name}`"


def join(items: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last

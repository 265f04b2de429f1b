"""Ranges of hyperparameters, under the names that Ray Tune gives them."""

import math
from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from psvae_tune.config.settings import Settings
from psvae_tune.errors import nearest

RANGES = {
    "grid_search": "a list of values",
    "choice": "a list of values",
    "uniform": "[low, high]",
    "loguniform": "[low, high]",
    "quniform": "[low, high, step]",
    "randint": "[low, high], high excluded",
    "lograndint": "[low, high], high excluded",
}
"""Arguments of each kind of range."""


_MAX_PADDED = 1e6  # `:g` gives larger numbers an exponent


class Domain(Settings):
    """Values that one hyperparameter may take, written ``{kind: arguments}`` in a file."""

    kind: str
    """Name of a range, one of `RANGES`."""
    values: tuple[Any, ...]
    """Values of a list, or the ends and the step of a range."""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or len(raw) != 1:
            raise ValueError("must be one range, for example {loguniform: [50, 1000]}")
        kind, values = next(iter(raw.items()))
        if kind not in RANGES:
            near = nearest(str(kind), RANGES)
            raise ValueError(
                f"`{kind}` is not a range; "
                + (f"did you mean `{near}`?" if near else f"choose from {', '.join(RANGES)}")
            )
        if not isinstance(values, list | tuple):
            raise ValueError(f"`{kind}` takes {RANGES[kind]}")
        return {"kind": kind, "values": values}

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.is_list:
            if not self.values:
                raise ValueError(f"`{self.kind}` is empty")
            return self
        count = 3 if self.kind == "quniform" else 2
        if len(self.values) != count or not all(_is_finite_number(v) for v in self.values):
            raise ValueError(f"`{self.kind}` takes {RANGES[self.kind]}")
        low, high = self.values[:2]
        if not low < high:
            raise ValueError(f"`{self.kind}` is upside down: {low} is not below {high}")
        if self.kind.startswith("log") and low <= 0:
            raise ValueError(f"`{self.kind}` needs a low end above 0")
        if "randint" in self.kind and not all(isinstance(v, int) for v in self.values):
            raise ValueError(f"`{self.kind}` takes whole numbers")
        if self.kind == "quniform" and self.values[2] <= 0:
            raise ValueError("the step of `quniform` must be above 0")
        return self

    @property
    def is_list(self) -> bool:
        """Whether the values are listed one by one, rather than drawn from a range."""
        return self.kind in ("grid_search", "choice")

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The listed values, or the two ends of a range."""
        if self.is_list:
            return self.values
        low, high = self.values[:2]
        return (low, high - 1) if "randint" in self.kind else (low, high)

    @property
    def examples(self) -> tuple[Any, ...]:
        """Values of which one is invalid if any value is: those of `extremes`, and one between.

        The ends of a range may be whole numbers although what is drawn from it is not.
        """
        if self.is_list or "randint" in self.kind:
            return self.extremes
        low, high, *step = self.values
        return (*self.extremes, low + (step[0] if step else (high - low) / math.pi))

    @property
    def n_digits(self) -> int:
        """Number of digits before the point of the largest value; 1 from a million on."""
        values = [value for value in self.extremes if _is_finite_number(value)]
        largest = max(values, default=0)
        return len(str(int(largest))) if 0 < largest < _MAX_PADDED else 1

    def contains(self, value: Any) -> bool:
        """Return whether the hyperparameter may take a value."""
        if self.is_list:
            return any(type(value) is type(own) and value == own for own in self.values)
        low, high, *step = self.values
        if not _is_finite_number(value):
            return False
        if "randint" in self.kind:
            return isinstance(value, int) and low <= value < high
        is_on_grid = not step or math.isclose(
            (n_steps := (value - low) / step[0]), round(n_steps), abs_tol=1e-9
        )
        return bool(low <= value <= high and is_on_grid)

    def to_yaml(self) -> dict[str, list[Any]]:
        """Return the domain as a search-space file holds it."""
        return {self.kind: list(self.values)}


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

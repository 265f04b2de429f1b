"""Arguments of a wrong name are refused with the nearest right one."""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from psvae_tune.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")


def names_nearest_argument(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse an argument of a wrong name with an error that names the nearest right one."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0)
                raise UserError(
                    f"{function.__name__}()",
                    f"takes no argument {name!r}",
                    hint=f"did you mean {near[0]!r}?",
                )
        return function(*args, **kwargs)

    return call

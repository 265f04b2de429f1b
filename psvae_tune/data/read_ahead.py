"""A thread reads and decodes what comes next, while what came before is used."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

N_AHEAD = 2
"""Number of items that are made before they are asked for."""


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield items in their order, each made in a thread while earlier ones are used.

    An exception that is raised while an item is made is raised in its place.

    Side effects: the thread ends with the iteration, and with an iteration that is given up.
    """
    source, end = iter(items), object()
    thread = ThreadPoolExecutor(1)
    try:
        made = deque(thread.submit(next, source, end) for _ in range(N_AHEAD))
        while (item := made.popleft().result()) is not end:
            made.append(thread.submit(next, source, end))
            yield item  # type: ignore[misc]
    finally:
        thread.shutdown(cancel_futures=True)

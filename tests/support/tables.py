"""The two tables that the tests of faults fill, and that pytest prints at its end.

Every process of pytest fills tables of its own. `dump` and `merge` bring them together.
"""

from collections import Counter
from typing import Any

FAULT_COLUMNS = (
    "fault",
    "times",
    "trials",
    "epochs repeated (most a trial)",
    "metrics lost",
    "metrics twice",
    "runs twice",
    "partial files",
    "outcome",
)
TRIED_COLUMNS = ("parser", "inputs tried", "refused", "taken", "found")
OUTCOMES = ("refused", "taken")
"""Outcomes of an input that are as they should be."""

faults: list[tuple[str, ...]] = []
"""One row for every fault that a study was put through."""

tried: dict[str, Counter[str]] = {}
"""Number of inputs of every parser that came to each outcome."""


def dump() -> dict[str, Any]:
    """Return the tables as plain data, which can be sent to another process."""
    return {
        "faults": [list(row) for row in faults],
        "tried": {parser: dict(outcomes) for parser, outcomes in tried.items()},
    }


def merge(dumped: dict[str, Any]) -> None:
    """Add the tables of another process to those of this one."""
    faults.extend(tuple(row) for row in dumped["faults"])
    for parser, outcomes in dumped["tried"].items():
        tried.setdefault(parser, Counter()).update(outcomes)


def describe_faults() -> list[str]:
    """Return the table of faults as lines of Markdown."""
    return to_markdown(FAULT_COLUMNS, sorted(faults))


def describe_tried() -> list[str]:
    """Return the table of inputs as lines of Markdown."""
    rows = []
    for parser, outcomes in sorted(tried.items()):
        found = ", ".join(
            f"{n} {outcome}" for outcome, n in sorted(outcomes.items()) if outcome not in OUTCOMES
        )
        counts = (outcomes.total(), *(outcomes[outcome] for outcome in OUTCOMES))
        rows.append((parser, *(f"{count:,}" for count in counts), found or "nothing"))
    return to_markdown(TRIED_COLUMNS, rows)


def to_markdown(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Return a table as lines of Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]

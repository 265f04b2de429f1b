"""Faults that are drawn by a seed and done to a small study, which must come to the same.

Usage::

    python -m tests.faults.plans --seed 0 --plans 1000
    python -m tests.faults.plans --plan 17

A plan is a list of faults, each with a process and the number of the event at which it is done.
Seed 17 stands for the same plan everywhere. The study is run and resumed by the program's own
commands until it ends. Its workers are forked, in the place of Ray's, and time that it would wait
passes at once.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support import edge, faulty_server
from tests.support.edge import Fault
from tests.support.laboratory import Laboratory, Result
from tests.support.tables import to_markdown

EVENTS = {"driver": 420, "worker": 230, "server": 300}
"""Number of first events of each process of which a plan draws one; a study has few more."""
KINDS = {
    "driver": tuple(edge.FAULTS),
    "worker": tuple(kind for kind in edge.FAULTS if kind not in ("SIGTERM", "node lost")),
    "server": tuple(faulty_server.FAULTS),
}
MAX_FAULTS = 3
N_WORKERS = 4
"""Number of workers of a start that faults are done to: three trials, and one that goes on."""
DAYS = (-400, -1, -0.01, 0.01, 1, 400)
COLUMNS = ("process", "fault", "drawn", "met", "studies that differ")


@dataclass(frozen=True)
class Plan:
    """Faults that are done to one study."""

    is_served: bool
    """Whether its runs are logged to a server rather than to a file."""
    faults: tuple[Fault, ...]


def draw(seed: int) -> Plan:
    """Draw a plan: some faults, half of them in the first start and others in later ones."""
    rng = np.random.default_rng(seed)
    is_served = bool(rng.random() < 0.5)
    processes = ("driver", "worker", "server") if is_served else ("driver", "worker")
    faults = []
    for number in range(int(rng.integers(1, MAX_FAULTS + 1))):
        process = str(rng.choice(processes))
        kind = str(rng.choice(KINDS[process]))
        amount = 0.0
        if kind == "clock":
            amount = float(rng.choice(DAYS))
        elif kind == "kill amid a write":
            amount = float(int(10 ** rng.uniform(0, 5)))
        event = int(rng.integers(1, EVENTS[process] + 1))
        start = 0 if rng.random() < 0.5 else number
        if process == "worker":
            process = f"worker {rng.integers(1, N_WORKERS + 1)}"
        faults.append(Fault(start, process, event, kind, amount))
    return Plan(is_served, tuple(faults))


def run_all(laboratory: Laboratory, seeds: Iterable[int]) -> Iterator[tuple[int, Plan, Result]]:
    """Run the plans of seeds, one after another."""
    for seed in seeds:
        plan = draw(seed)
        yield seed, plan, laboratory.run(plan.is_served, plan.faults)


def describe(done: list[tuple[int, Plan, Result]]) -> list[str]:
    """Return the table of faults as lines of Markdown."""
    drawn, met, differ = Counter(), Counter(), Counter()
    for _, plan, result in done:
        drawn.update(map(_name, plan.faults))
        met.update(map(_name, result.met))
        differ.update({_name(fault) for fault in result.met if result.problems})
    rows = [
        (*name, str(drawn[name]), str(met[name]), str(differ[name] or "none"))
        for name in sorted(drawn)
    ]
    return to_markdown(COLUMNS, rows)


def _name(fault: Fault) -> tuple[str, str]:
    return fault.process.partition(" ")[0], fault.kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--plans", type=int, default=30, help="number of seeds")
    parser.add_argument("--plan", type=int, nargs="+", help="seeds, whose studies are shown")
    options = parser.parse_args()
    seeds = options.plan or range(options.seed, options.seed + options.plans)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's `command &` would ignore the first
        signal.signal(number, signal.default_int_handler)
    done: list[tuple[int, Plan, Result]] = []
    begin = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            for seed, plan, result in run_all(Laboratory(Path(folder)), seeds):
                done.append((seed, plan, result))
                _show(seed, plan, result, is_alone=options.plan is not None)
                _show_progress(len(done), len(seeds), time.monotonic() - begin)
    except KeyboardInterrupt:
        print(f"\ninterrupted after {len(done)} of {len(seeds)} plans", file=sys.stderr)
    failed = [seed for seed, _, result in done if result.problems]
    print("", *describe(done), sep="\n")
    print(f"\n{len(done)} plans; not equal: {failed or 'none'}")
    sys.exit(1 if failed else 0)


def _show(seed: int, plan: Plan, result: Result, *, is_alone: bool) -> None:
    outcome = "differs" if result.problems else "equal"
    met = ", ".join(" ".join(_name(fault)) for fault in result.met) or "no fault was met"
    print(f"\nplan {seed}: {outcome}: {met}", flush=True)
    if is_alone or result.problems:
        print(plan, *result.problems, *result.said, sep="\n", flush=True)


def _show_progress(n_done: int, n_all: int, seconds: float) -> None:
    left = seconds / n_done * (n_all - n_done) / 60
    width = 40 * n_done // n_all
    bar = "#" * width + "-" * (40 - width)
    print(f"\r{bar} {n_done}/{n_all}, {left:.0f} min left ", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

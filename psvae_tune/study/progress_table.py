"""A running study is shown: as a live table in a terminal or notebook, else line by line."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from psvae_tune.cluster.nodes import Nodes
from psvae_tune.config.stage import Stage
from psvae_tune.config.study import Resources
from psvae_tune.search.progress import TrialReport
from psvae_tune.search.selection.select import Selection
from psvae_tune.study.plan import StudyPlan

N_SHOWN = 20
"""Running trials that the table shows."""
NOTEBOOK_REFRESH_S = 0.5
"""Seconds between two updates of a notebook's table."""


@contextmanager
def show_progress(plan: StudyPlan) -> "Iterator[StudyTable]":
    """Show a study in the notebook, or on stderr, until the block ends."""
    console = Console()
    if not console.is_jupyter:
        console = Console(stderr=True)
    with StudyTable(console, plan.study.base.training.max_n_epochs) as table:
        yield table


@dataclass(slots=True)
class _Row:
    epoch: int = 0
    state: str = "running"
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class StudyTable:
    """Shows a study on a console; a `psvae_tune.study.start.RunObserver`.

    Parameters
    ----------
    console
        Where to write. A terminal and a notebook get a table that is kept up to date.
    max_n_epochs
        Epochs of a trial at most, from which the time left is estimated.
    """

    console: Console
    max_n_epochs: int
    _open: ExitStack = field(default_factory=ExitStack)
    """What is shown until the study ends."""
    _live: Live | None = None
    _output: Any = None
    """Output of a notebook's cell that holds the table."""
    _next_s: float = 0.0
    """Time of the clock before which a notebook's table is left as it is."""
    _reading: Progress | None = None
    _stage: Stage | None = None
    _rows: dict[str, _Row] = field(default_factory=dict)
    _n_trials: int | None = 0
    _n_before: int = 0
    _start: float | None = None
    """When the first epoch of the stage was over: what comes before is start-up."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()
        self._show_in_notebook(Text(""))

    def cluster_joined(self, nodes: Nodes, resources: Resources) -> None:
        """Say how many trials fit on the cluster."""
        self._print(f"cluster    {nodes.describe(resources)}")

    def reading_started(self, n_frames: int, streamed: Sequence[str]) -> None:
        """Say which recordings stay in their files, and show a bar for the others."""
        for path in streamed:
            self._print(
                f"recording  {path} is too large for memory: its clips are read as they are needed"
            )
        if self.console.is_terminal:
            bar = Progress(console=self.console, transient=True)
            self._reading = self._open.enter_context(bar)
            bar.add_task("reading frames", total=n_frames)

    def frames_read(self, n_frames: int) -> None:
        """Move the bar."""
        if self._reading:
            self._reading.update(self._reading.task_ids[0], completed=n_frames)

    def capacity_measured(self, lines: Sequence[str], warnings: Sequence[str]) -> None:
        """Say how many latents can be active."""
        for line in lines:
            self._print(f"capacity   {line}")
        for warning in warnings:
            self._print(f"warning    {warning}")

    def stage_started(
        self, stage: Stage, n_trials: int | None, n_done: int, rung: str | None = None
    ) -> None:
        """Say what comes."""
        is_first = self._stage is None
        if is_first:
            self._open.close()  # the bar of the reading
        self._stage, self._n_trials, self._n_before = stage, n_trials, n_done
        self._rows, self._start = {}, None
        known = f", {n_done} of them known already" if n_done else ""
        lengths = f" at {rung} of the epochs" if rung else ""
        self._print(f"stage {stage.name}: {self._total()} trials{lengths}{known}")
        if is_first and self.console.is_terminal:
            live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live = self._open.enter_context(live)

    def trial_progressed(self, name: str, progress: TrialReport) -> None:
        """Show the latest numbers of a trial."""
        row = self._rows.setdefault(name, _Row())
        row.epoch, row.metrics = progress.epoch, progress.best_metrics
        if self._start is None:
            self._start = time.monotonic()
        self._refresh()

    def trial_ended(
        self, name: str, outcome: str, reason: str, metrics: Mapping[str, float]
    ) -> None:
        """Write one line that stays."""
        row = self._rows.setdefault(name, _Row())
        row.state, row.metrics = outcome, metrics
        text = reason if outcome == "failed" else self._numbers(metrics)
        n_ended = self._n_before + sum(row.state != "running" for row in self._rows.values())
        self._print(
            f"  {n_ended}/{self._total()}  {name:<24} {outcome:<9} epoch {row.epoch:<4} {text}"
        )
        self._refresh()

    def stage_selected(self, stage: Stage, selection: Selection) -> None:
        """Say what a stage chose."""
        self._print(f"  chosen: {selection.chosen.name}")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _numbers(self, metrics: Mapping[str, float]) -> str:
        assert self._stage is not None
        return "  ".join(
            f"{key} {metrics[key]:.4g}" for key in self._stage.objectives if key in metrics
        )

    def _refresh(self) -> None:
        if self._live:
            self._live.update(self._table())
        elif self.console.is_jupyter and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + NOTEBOOK_REFRESH_S
            self._show_in_notebook(self._table())

    def _show_in_notebook(self, table: Table | Text) -> None:
        if self._output is not None:
            self._output.update(table)
        elif isinstance(table, Table):
            from IPython.display import display  # a notebook has it

            self._output = display(table, display_id=True)

    def _table(self) -> Table:
        assert self._stage is not None
        n_ended = self._n_before + sum(row.state != "running" for row in self._rows.values())
        table = Table(
            title=f"stage {self._stage.name}: {n_ended} of {self._total()} trials, "
            f"{self._time_left()} left"
        )
        table.add_column("trial")
        table.add_column("epoch", justify="right")
        for key in self._stage.objectives:
            table.add_column(key, justify="right")
        running = [(name, row) for name, row in self._rows.items() if row.state == "running"]
        for name, row in running[:N_SHOWN]:
            values = [
                f"{row.metrics[key]:.4g}" if key in row.metrics else ""
                for key in self._stage.objectives
            ]
            table.add_row(name, f"{row.epoch}/{self._trial_epochs()}", *values)
        return table

    def _total(self) -> int | str:
        return "?" if self._n_trials is None else self._n_trials

    def _trial_epochs(self) -> int:
        """Return the number of epochs of a trial at most."""
        own = self._stage and self._stage.epochs
        return own or self.max_n_epochs

    def _time_left(self) -> str:
        """Estimate from the epochs done so far, as if every trial trained to the end."""
        n_done = sum(row.epoch for row in self._rows.values()) - 1
        if self._start is None or self._n_trials is None or n_done < 1:
            return "?"
        ended = sum(row.state != "running" for row in self._rows.values())
        running = sum(row.epoch for row in self._rows.values() if row.state == "running")
        n_left = (self._n_trials - self._n_before - ended) * self._trial_epochs() - running
        seconds = int((time.monotonic() - self._start) / n_done * max(n_left, 0))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

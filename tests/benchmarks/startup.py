"""Where do the seconds go from `psvae-tune run` to the first step, and between two stages?

    python -m tests.benchmarks.startup

Runs a study of two stages, each of two trials that train for moments, through the command line.
Prints a timeline as a Markdown table: when each thing had happened, and the CPU seconds that the
command, its workers and the rest of Ray had used by then. CPU seconds tell where the time goes on
a machine that does other work as well. Uses a GPU if there is one. One minute on two cores.
"""

import subprocess
import threading
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import yaml

from psvae_tune.data.demo import write_demo
from tests.support.processes import command_line, cpu_seconds, descendants
from tests.support.tiny_study import COMMAND, STUDY

OBJECTIVES = {"val/frame_mse": "min"}
STAGES = [
    {"name": name, "space": {f"ps_vae.{name}": {"grid_search": values}}, "objectives": OBJECTIVES}
    for name, values in (("alpha", [10, 100]), ("beta", [1, 5]))
]
PERIOD_S = 0.02
"""Seconds between two looks at the processes."""


@dataclass
class Watch:
    """What was seen of a command from outside."""

    folder: Path
    events: list[tuple[float, str]] = field(default_factory=list)
    """Times since 1970, and what had happened then."""
    costs: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    """CPU seconds of each group of processes up to a time."""
    _latest: dict[int, tuple[str, float]] = field(default_factory=dict)

    def run(self) -> None:
        """Run the command to its end, and look at it all the time."""
        call = [*COMMAND, "run", "study.yaml", "--output", "out", "--name", "study"]
        self._note("the command starts")
        process = subprocess.Popen(
            call, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        reader = threading.Thread(target=self._read, args=[process.stderr])
        reader.start()
        while process.poll() is None:
            self._look(process.pid)
            time.sleep(PERIOD_S)
        reader.join()
        self._note("the command has ended")
        if process.returncode:
            raise SystemExit(process.returncode)

    def _note(self, event: str) -> None:
        self.events.append((time.time(), event))

    def _read(self, lines) -> None:
        for line in lines:
            words = line.split()
            if words[:1] == ["stage"]:
                self._note(f"stage {words[1].rstrip(':')} begins")
            elif words[:1] == ["chosen:"]:
                self._note("it is decided")
            elif words and words[0] == "2/2":
                self._note("its last trial has ended")

    def _look(self, driver: int) -> None:
        """Note what has happened since the last look, and what it has cost."""
        known = {event for _, event in self.events}
        titles = {pid: command_line(pid) for pid in descendants(driver)}
        for event, has_happened in (
            ("settings and headers are read", (self.folder / "out").exists()),
            ("MLflow is imported", (self.folder / "out/mlflow.db").exists()),
            ("models can be built", (self.folder / "out/study/study.yaml").exists()),
            ("Ray starts", any("gcs_server" in title for title in titles.values())),
            ("Ray's node starts", any("/raylet " in title for title in titles.values())),
        ):
            if has_happened and event not in known:
                self._note(event)
        for pid, title in titles.items():
            group, seconds = self._latest.get(pid, ("Ray", 0.0))
            if pid == driver:
                group = "command"
            elif "default_worker.py" in title:
                group = "workers"
            self._latest[pid] = group, max(seconds, cpu_seconds(pid))
        spent = dict.fromkeys(("command", "workers", "Ray"), 0.0)
        for group, seconds in self._latest.values():
            spent[group] += seconds
        self.costs.append((time.time(), spent))

    def add_runs(self) -> None:
        """Add what the runs in MLflow tell of the trials."""
        client = mlflow.MlflowClient(f"sqlite:///{self.folder}/out/mlflow.db")
        (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
        runs = client.search_runs([experiment.experiment_id])
        stages: dict[str, list[tuple[float, float]]] = {}
        for run in runs:
            begin = run.info.start_time / 1000
            kind = run.data.tags["psvae_tune.kind"]
            if kind == "study":
                self.events.append((begin, "the study's run is open"))
            if kind != "trial":
                continue
            (cost, *_) = client.get_metric_history(run.info.run_id, "perf/epoch_seconds")
            step = cost.timestamp / 1000 - cost.value
            times = stages.setdefault(run.data.tags["psvae_tune.stage"], [])
            times.append((begin, step))
        for name, times in stages.items():
            begins, steps = zip(*times, strict=True)
            self.events.append((min(begins), f"the first trial of {name} opens its run"))
            self.events.append((min(steps), f"**first step** of {name}"))

    def print_table(self) -> None:
        """Print the events in order."""
        self.events.sort()
        begin, before = self.events[0][0], self.events[0][0]
        moments = [moment for moment, _ in self.costs]
        print("| | at | after | command | workers | Ray |\n|---|---|---|---|---|---|")
        for moment, event in self.events:
            spent = self.costs[max(bisect_right(moments, moment) - 1, 0)][1]
            cells = " | ".join(f"{seconds:.1f}" for seconds in spent.values())
            print(f"| {event} | {moment - begin:.1f} s | {moment - before:.1f} s | {cells} |")
            before = moment


def main() -> None:
    """Run, read and print."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_demo(folder / "demo.h5", n_clips=12, clip_length=20, size=16)
        raw = {**STUDY, "search": {"stages": STAGES}}
        (folder / "study.yaml").write_text(yaml.safe_dump(raw))
        watch = Watch(folder)
        watch.run()
        watch.add_runs()
        watch.print_table()


if __name__ == "__main__":
    main()

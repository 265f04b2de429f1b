"""A place where a small study is run again and again, each time with other faults.

Everything that a study imports is imported once, and every process of it is forked from there.
"""

import gc
import importlib
import json
import os
import pickle
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support import audit, faulty_server, plan_outcome, simulated_ray
from tests.support.edge import Edge, Fault
from tests.support.tiny_study import STUDY as TINY

MAX_STARTS = 10
"""Number of starts after which a study that has not ended never will."""
STUDY = {
    **TINY,
    "model": {**TINY["model"], "ps_vae.anneal_epochs": 1},
    "training": {**TINY["training"], "max_n_epochs": 4},
    "search": {
        "stages": [
            {
                "name": "alpha",
                "space": {"ps_vae.alpha": {"loguniform": [1, 500]}},
                "algorithm": "random",
                "num_trials": 2,
                "objectives": {"val/frame_mse": "min", "val/label_r2": "max"},
            },
            {
                "name": "seeds",
                "space": {"rng_seed_model": {"grid_search": [0, 1]}},
                "objectives": {"val/frame_mse": "min"},
                "select": {"best": "udr"},
            },
        ]
    },
    "tracking": {"movies": "none"},
}
LIBRARIES = (
    "av",
    "mlflow.pyfunc",
    "mlflow.server",
    "psvae_tune.results.choices",
    "psvae_tune.results.figures.trial_files",
    "psvae_tune.results.report",
    "psvae_tune.study.progress_table",
    "psvae_tune.study.run",
    "ray.tune",
    "sklearn.cluster",
    "sklearn.decomposition",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "torch._dynamo",
)
"""Modules that take long to import. The others are imported once a first study has needed them."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


@dataclass
class Result:
    """What a study with faults came to."""

    met: list[Fault]
    """The faults that were done; the study may have ended before the event of another."""
    problems: list[str]
    said: list[str]
    """Each command with its status, and what it printed."""
    outcome: dict[str, Any] | None = None


class Laboratory:
    """Runs studies in a folder, each in processes of its own."""

    def __init__(self, folder: Path) -> None:
        """Import what studies need, and run one that is not disturbed."""
        self.folder, self.root = folder, folder / "root"
        self.undisturbed: dict[str, Any] | None = None
        os.environ |= ENVIRONMENT | {"PSVAE_TUNE_CACHE": str(folder / "cache")}
        for name in LIBRARIES:
            importlib.import_module(name)
        _leave_pictures_blank()
        in_child(self._prepare)
        self.edge = Edge(self.root, self._note)
        first = self.run(True, ())
        assert first.outcome is not None, "\n".join(first.said)
        self.undisturbed = first.outcome
        for name in (folder / "modules").read_text().split():
            with suppress(Exception):  # some are no modules of their own
                importlib.import_module(name)
        gc.collect()
        gc.freeze()  # so that a child shares the memory of what was imported

    def _prepare(self) -> None:
        import mlflow

        from psvae_tune.data.demo import write_demo

        write_demo(self.folder / "demo.h5", n_clips=10, clip_length=8, size=16)
        mlflow.MlflowClient(f"sqlite:///{self.folder / 'empty.db'}").search_experiments()

    def run(self, is_served: bool, faults: Sequence[Fault]) -> Result:
        """Run a study until it ends, with faults.

        Parameters
        ----------
        is_served
            Whether its runs are logged to a server rather than to a file of SQLite.
        faults
            The faults.
        """
        answer = self.folder / "answer"
        answer.unlink(missing_ok=True)

        def work() -> None:
            answer.write_bytes(pickle.dumps(self._run(is_served, faults)))

        assert in_child(work) == 0
        result: Result = pickle.loads(answer.read_bytes())
        return result

    def _run(self, is_served: bool, faults: Sequence[Fault]) -> Result:
        store = self._make_folder(is_served)
        call = ["run", "study.yaml", "--output", "out", "--name", "study"]
        result = Result([], [], [])
        for start in range(MAX_STARTS):
            now = [fault for fault in faults if fault.start == start]
            status, said = self._start(is_served, call, now)
            result.said.append(f"$ {' '.join(call)}\n{said}[{status}]\n")
            result.problems += _judge(status, said)
            result.problems += _list_partial(self.root)
            is_waiting = "waits for the tracking server" in said and status == 0
            if status == 0 and not is_waiting:
                break
            if (self.root / "out/study/study.yaml").exists():
                call = ["sync" if is_waiting or call[0] == "sync" else "resume", "out/study"]
        else:
            result.problems.append(f"has not ended after {MAX_STARTS} starts")
        with suppress(FileNotFoundError):
            lines = (self.folder / "met").read_text().splitlines()
            result.met = [Fault(**json.loads(line)) for line in lines]
        if status == 0:
            result.outcome = plan_outcome.read(self.root, store)
            if self.undisturbed is not None:
                result.problems += plan_outcome.compare(self.undisturbed, result.outcome)
        return result

    def _make_folder(self, is_served: bool) -> Path:
        """Make the folder of a study; return that of its store."""
        shutil.rmtree(self.root, ignore_errors=True)
        (self.folder / "met").unlink(missing_ok=True)
        store = self.root / ("server" if is_served else "out")
        store.mkdir(parents=True)
        shutil.copy(self.folder / "demo.h5", self.root)
        shutil.copy(self.folder / "empty.db", store / "mlflow.db")
        (self.root / "study.yaml").write_text(yaml.safe_dump(STUDY))
        return store

    def _start(
        self, is_served: bool, call: Sequence[str], faults: Sequence[Fault]
    ) -> tuple[int, str]:
        """Run a command of the program; return its status and what it said."""
        output = self.folder / "said"
        if not is_served:
            status = in_child(lambda: self._command(call, faults), output)
            return status, output.read_text(errors="replace")
        with faulty_server.serve(self.root / "server", faults, self._note) as uri:
            served = [*call, "--tracking-uri", uri]
            status = in_child(lambda: self._command(served, faults), output)
        return status, output.read_text(errors="replace")

    def _command(self, call: Sequence[str], faults: Sequence[Fault]) -> None:
        """Run a command, in this process and in workers, with the faults of each."""
        os.chdir(self.root)

        def on_start(number: int) -> None:
            self.edge.begin([f for f in faults if f.process == f"worker {number}"])

        at_end = self._keep_modules if self.undisturbed is None else lambda: None
        simulated_ray.install(on_start, at_end)
        self.edge.begin([fault for fault in faults if fault.process == "driver"])
        from psvae_tune.cli.commands import main

        try:
            main(list(call))
        finally:
            at_end()

    def _keep_modules(self) -> None:
        """Note what was imported, which takes seconds."""
        with (self.folder / "modules").open("a") as file:
            file.write("\n".join([*sys.modules, ""]))

    def _note(self, fault: Fault) -> None:
        with (self.folder / "met").open("a") as file:
            file.write(json.dumps(asdict(fault)) + "\n")


def in_child(work: Callable[[], None], output: Path | None = None) -> int:
    """Do some work in a process of its own; return its status, negative after a signal.

    If the process is stopped, it goes on a moment later.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if (pid := os.fork()) == 0:
        status = 70
        try:
            if output is not None:
                file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(file, 1)
                os.dup2(file, 2)
            work()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    while True:
        _, ended = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(ended):
            return os.waitstatus_to_exitcode(ended)
        time.sleep(0.05)
        os.kill(pid, signal.SIGCONT)


def _judge(status: int, said: str) -> list[str]:
    """Return what is wrong with how a command ended: it was killed, or tells one error."""
    if "Traceback" in said:
        return ["printed a traceback"]
    if status in (-signal.SIGKILL, -signal.SIGXFSZ, 0):
        return []
    n_errors = said.count("error: ")
    if status in (1, 2) and n_errors == 1:
        return []
    return [f"ended with status {status} and {n_errors} errors"]


def _list_partial(root: Path) -> list[str]:
    """Return the files that are not whole. A line of a journal may not be, and is written anew."""
    return [
        f"is not whole: {item}"
        for item in audit.partial_files(root)
        if not item.startswith("out/study/journal.jsonl")
    ]


def _leave_pictures_blank() -> None:
    """Have Matplotlib draw nothing: it takes most of the time, and asks nothing of the system."""
    from matplotlib.artist import Artist
    from matplotlib.axis import Axis
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    Artist.findobj = lambda *_, **__: []  # type: ignore[method-assign]
    Axis.get_ticklabels = lambda *_, **__: []  # type: ignore[method-assign]
    FigureCanvasAgg.draw = lambda self: self.get_renderer()  # type: ignore[method-assign]

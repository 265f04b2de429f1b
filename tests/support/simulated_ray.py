"""A Ray whose workers are forked, so that a whole study takes a second and each can be killed.

It takes the place of what `psvae_tune` asks of Ray on one machine. The searcher, the scheduler,
the callback and the trainable are those of the program, and are called in the order in which Ray
Tune calls them. One process computes at a time, so that a study takes the same steps each time.
"""

import os
import pickle
import signal
import socket
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection, wait
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

N_WORKERS = 2
NODE = {
    "NodeID": "0",
    "NodeManagerHostname": "here",
    "Alive": True,
    "Resources": {"CPU": N_WORKERS, "object_store_memory": 2**30},
}
STOPPED_S = 0.3
"""Seconds after which a worker that was stopped goes on."""


_workers: set[int] = set()
"""Processes that train trials now."""


def kill_workers() -> None:
    """Kill all workers at once, as they die with their machine."""
    for pid in _workers:
        os.kill(pid, signal.SIGKILL)


class Zygote:
    """A process that forks workers. It has no connection to a store that they would share.

    Its workers end with it, and it ends with the process that has started it.
    """

    def __init__(self, on_fork: Callable[[int], None], at_end: Callable[[], None]) -> None:
        """Start it; a worker calls ``on_fork`` with its number, from 1, and ``at_end``."""
        self._socket, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._socket.close()
            try:
                _fork_workers(theirs, on_fork, at_end)
            finally:
                os._exit(0)
        theirs.close()

    def start(self, task: bytes) -> Connection:
        """Have a worker run a pickled (function, config); return the way to it."""
        ours, theirs = socket.socketpair()
        socket.send_fds(self._socket, [len(task).to_bytes(8, "big")], [theirs.fileno()])
        self._socket.sendall(task)
        theirs.close()
        return Connection(ours.detach())


def _fork_workers(
    requests: socket.socket, on_fork: Callable[[int], None], at_end: Callable[[], None]
) -> None:
    workers: set[int] = set()
    number = 0
    while True:
        size, fds, _, _ = socket.recv_fds(requests, 8, 1)
        if not size:
            break
        task = b""
        while len(task) < int.from_bytes(size, "big"):
            task += requests.recv(2**20)
        number += 1
        if (pid := os.fork()) == 0:
            requests.close()
            on_fork(number)
            _work(Connection(fds[0]), task, at_end)
        workers.add(pid)
        os.close(fds[0])
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


def _work(driver: Connection, task: bytes, at_end: Callable[[], None]) -> None:
    """Run a task in a worker, and end the process."""
    try:
        driver.send(("pid", os.getpid()))

        def report(result: dict[str, Any]) -> None:
            driver.send(("result", result))
            if driver.recv() != "go on":
                os._exit(0)

        tune.report = report
        driver.recv()
        function, config = pickle.loads(task)
        function(config)
        at_end()
        driver.send(("done", None))
    except EOFError:
        os._exit(1)
    except BaseException:
        driver.send(("error", traceback.format_exc()))
    os._exit(0)


class Trial:
    """A trial, as schedulers and callbacks see it."""

    placement_group_factory = None

    def __init__(self, number: int, config: dict[str, Any]) -> None:
        self.trial_id, self.config = f"{number:05}", config
        self.n_failures = 0
        self.error: Any = None
        self.is_over = False
        self.worker: Connection | None = None
        self.pid = 0

    def is_finished(self) -> bool:
        return self.is_over

    def get_error(self) -> Any:
        return self.error


class Tuner:
    """Runs trials in forked workers."""

    zygote: Zygote

    def __init__(self, trainable: Any, *, tune_config: Any, run_config: Any) -> None:
        self.trainable = trainable
        self.searcher, self.scheduler = tune_config.search_alg, tune_config.scheduler
        (self.callback,) = run_config.callbacks
        self.max_failures = run_config.failure_config.max_failures
        self._actor_cache = SimpleNamespace(increase_max=lambda *_, **__: None)
        self.trials: list[Trial] = []
        self.step = 0

    def fit(self) -> None:
        is_exhausted = False
        try:
            while True:
                while not is_exhausted and len(self._running()) < N_WORKERS:
                    config = self.searcher.suggest(f"{len(self.trials):05}")
                    if config is None:
                        break
                    is_exhausted = config == Searcher.FINISHED
                    if not is_exhausted:
                        self._add(config)
                if not self._running():
                    return
                for trial in self._running():
                    self.step += 1
                    self._advance(trial)
        finally:
            kill_workers()

    def _running(self) -> list[Trial]:
        return [trial for trial in self.trials if not trial.is_over]

    def _add(self, config: dict[str, Any]) -> None:
        trial = Trial(len(self.trials), config)
        self.trials.append(trial)
        self.scheduler.on_trial_add(self, trial)
        self._start(trial)

    def _start(self, trial: Trial) -> None:
        trial.worker = self.zygote.start(pickle.dumps((self.trainable, trial.config)))
        trial.pid = trial.worker.recv()[1]
        _workers.add(trial.pid)

    def _advance(self, trial: Trial) -> None:
        """Let a worker compute until its next report, and act on that."""
        assert trial.worker is not None
        try:
            trial.worker.send("go on")
            while not wait([trial.worker], STOPPED_S):
                os.kill(trial.pid, signal.SIGCONT)
            kind, content = trial.worker.recv()
        except (EOFError, OSError):
            kind, content = "error", RayActorError()
        if kind != "result":
            _workers.discard(trial.pid)
        if kind == "error":
            self._fail(trial, content)
        elif kind == "done":
            self._complete(trial)
        else:
            self.callback.on_trial_result(self.step, self.trials, trial, content)
            if self.scheduler.on_trial_result(self, trial, content) == TrialScheduler.STOP:
                trial.worker.send("stop")
                _workers.discard(trial.pid)
                self._complete(trial)

    def _complete(self, trial: Trial) -> None:
        trial.is_over = True
        self.searcher.on_trial_complete(trial.trial_id)
        self.callback.on_trial_complete(self.step, self.trials, trial)

    def _fail(self, trial: Trial, error: Any) -> None:
        trial.error, trial.n_failures = error, trial.n_failures + 1
        if trial.n_failures <= self.max_failures:
            self.callback.on_trial_recover(self.step, self.trials, trial)
            self._start(trial)
            return
        trial.is_over = True
        self.searcher.on_trial_complete(trial.trial_id, error=True)
        self.callback.on_trial_error(self.step, self.trials, trial)


def install(on_fork: Callable[[int], None], at_end: Callable[[], None]) -> None:
    """Put this Ray in the place of the real one, in this process and those that it starts."""
    ray.is_initialized = lambda: True
    ray.shutdown = lambda: None
    ray.nodes = lambda: [NODE]
    ray.get_gpu_ids = lambda: []
    ray.put = ray.get = lambda item: item
    tune.Tuner = Tuner
    tune.with_parameters = partial
    tune.with_resources = lambda trainable, _: trainable
    Tuner.zygote = Zygote(on_fork, at_end)

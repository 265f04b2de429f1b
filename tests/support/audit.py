"""What a fault has cost a study, counted from its folder and from MLflow: the table of the README.

Every test of a fault compares the study that it disturbed with the same one left alone, and
enters a row; at the end of a session the rows are printed as the table.
"""

import csv
import hashlib
import io
import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import av
import h5py
import mlflow
import torch
import yaml
from PIL import Image

from psvae_tune.data.demo import write_demo
from tests.support import tables
from tests.support.tiny_study import STUDY

N_EPOCHS = 30
CHECKPOINT_EVERY = STUDY["training"]["checkpoint_every"]
STAGES = [
    {
        "name": "alpha",
        "space": {"ps_vae.alpha": {"grid_search": [1, 20, 100, 500]}},
        "objectives": {"val/frame_mse": "min", "val/label_r2": "max"},
    },
    {
        "name": "seeds",
        "space": {"rng_seed_model": {"grid_search": [0, 1]}},
        "objectives": {"val/frame_mse": "min"},
        "select": {"best": "udr"},
    },
]
N_TRIALS = 5
"""The second stage has one of the first's."""
N_BASELINES = 4


def make_study(folder: Path) -> tuple[str, ...]:
    """Write the study that is disturbed; return the command that runs it in ``folder``."""
    folder.mkdir(exist_ok=True)
    write_demo(folder / "demo.h5", n_clips=12, clip_length=20, size=16)
    training = {**STUDY["training"], "max_n_epochs": N_EPOCHS}
    raw = {**STUDY, "training": training, "search": {"stages": STAGES}}
    (folder / "study.yaml").write_text(yaml.safe_dump(raw))
    return ("run", "study.yaml", "--output", "out", "--name", "study")


@dataclass(frozen=True)
class Store:
    """Where the runs of the study in a folder are."""

    uri: str

    @classmethod
    def beside(cls, folder: Path) -> "Store":
        return cls(f"sqlite:///{folder / 'out' / 'mlflow.db'}")

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.uri)

    def runs(self) -> list:
        """Return all runs that there are, also those that no study knows of."""
        ids = [item.experiment_id for item in self.client.search_experiments()]
        return list(self.client.search_runs(ids, max_results=1000))

    def trials(self) -> list:
        return [run for run in self.runs() if run.data.tags.get("psvae_tune.kind") == "trial"]

    def rows(self) -> Counter:
        """Count every number that was logged of a trial, but for what it cost."""
        found: Counter = Counter()
        for run in self.trials():
            trial_id = run.data.tags["psvae_tune.trial_id"]
            for key in run.data.metrics:
                if not key.startswith("perf/"):
                    for item in self.client.get_metric_history(run.info.run_id, key):
                        found[trial_id, key, item.step, item.value] += 1
        return found


@dataclass(frozen=True)
class Outcome:
    """What a study came to, and how long it took."""

    rows: Counter = field(repr=False)
    selection: dict
    seconds: float = field(default=0.0, compare=False)

    @classmethod
    def read(cls, folder: Path, store: Store, seconds: float = 0.0) -> "Outcome":
        text = (folder / "out/study/selection.json").read_text()
        # It names the recording, which every study has in a folder of its own.
        return cls(store.rows(), json.loads(text.replace(str(folder), "")), seconds)


def epochs_to_repeat(folder: Path, store: Store) -> list[int]:
    """Return how many epochs that MLflow has must be trained again, for each unfinished trial."""
    found = []
    study = folder / "out/study"
    try:
        runs = store.trials()
    except mlflow.exceptions.MlflowException:
        return []  # killed before there was a store
    journal = study / "journal.jsonl"
    ended = set()
    for line in journal.read_text().splitlines() if journal.exists() else ():
        if '"event": "end"' in line:
            ended.add(json.loads(line)["trial"])
    for run in runs:
        trial_id = run.data.tags["psvae_tune.trial_id"]
        if trial_id not in ended:
            history = store.client.get_metric_history(run.info.run_id, "train/loss")
            logged = max((item.step for item in history), default=0)
            kept = study / "checkpoints" / f"{trial_id}.pt"
            reached = read_checkpoint(kept.read_bytes())["epoch"] if kept.exists() else 0
            found.append(max(0, logged - reached))
    return found


def partial_files(root: Path) -> list[str]:
    """Return the files below a folder that are not whole."""
    found = []
    for path in sorted(root.rglob("*")):
        # What a killed process was writing has another name, with a dot, until it is whole.
        if path.is_file() and not any(part.startswith(".") for part in path.parts):
            try:
                _read(path)
            except Exception as error:
                found.append(f"{path.relative_to(root)}: {error}")
    return found


def read_checkpoint(content: bytes) -> dict:
    assert hashlib.sha256(content[32:]).digest() == content[:32]
    return torch.load(io.BytesIO(content[32:]), weights_only=True)


def _read_movie(path: Path) -> None:
    with av.open(str(path)) as movie:
        assert sum(1 for _ in movie.decode(video=0))


def _read_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _read_table(path: Path) -> None:
    with path.open(newline="") as file:
        assert len({len(row) for row in csv.reader(file)}) == 1


def _read_journal(path: Path) -> None:
    for line in path.read_bytes().splitlines()[:-1]:  # the last may be torn, and is healed
        json.loads(line)


def _read_settings(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_bytes()), dict)


def _read_page(path: Path) -> None:
    assert path.read_text().rstrip().endswith("</html>")


READERS = {
    ".pt": lambda path: torch.load(path, weights_only=True),
    ".json": lambda path: json.loads(path.read_bytes()),
    ".jsonl": _read_journal,
    ".yaml": _read_settings,
    ".png": lambda path: Image.open(path).load(),
    ".mp4": _read_movie,
    ".h5": lambda path: h5py.File(path).close(),
    ".csv": _read_table,
    ".html": _read_page,
    ".db": _read_database,
}


def _read(path: Path) -> None:
    if path.parent.name == "checkpoints":
        read_checkpoint(path.read_bytes())
    elif path.suffix in READERS:
        READERS[path.suffix](path)


def enter(
    fault: str,
    n_times: int,
    folder: Path,
    store: Store,
    undisturbed: Outcome,
    repeated: list[int],
) -> None:
    """Count what a disturbed study that has ended lost, enter its row, and hold the promises."""
    found = Outcome.read(folder, store)
    runs = store.runs()
    n_lost = len(undisturbed.rows.keys() - found.rows.keys())
    steps = Counter((trial, key, step) for trial, key, step, _ in found.rows.elements())
    n_twice = sum(count - 1 for count in steps.values())
    # With a server, its files lie beside the output folder.
    partial = [*partial_files(folder / "out"), *partial_files(folder / "artifacts")]
    is_equal = found == undisturbed
    counts = (n_lost, n_twice, len(runs) - N_TRIALS - N_BASELINES - 1, len(partial))
    repeated_most = f"{sum(repeated)} ({max(repeated, default=0)})"
    row = (fault, n_times, N_TRIALS, repeated_most, *counts, "equal" if is_equal else "differs")
    tables.faults.append(tuple(map(str, row)))
    assert max(repeated, default=0) <= CHECKPOINT_EVERY
    assert n_lost == n_twice == 0
    assert len(runs) == N_TRIALS + N_BASELINES + 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.tags["psvae_tune.trial_id"] for run in store.trials()}) == N_TRIALS
    assert not partial
    assert is_equal
    assert not list((folder / "out/study/spool").glob("*"))
    journal = (folder / "out/study/journal.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in journal]
    ends = Counter(event["trial"] for event in events if event["event"] == "end")
    assert set(ends.values()) == {1}

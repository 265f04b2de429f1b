"""What a study came to, read from its folder and from the tables of its store."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

TAGS = {f"psvae_tune.{name}" for name in ("kind", "stage", "stop_reason", "selected", "pareto")}
_RUNS = """
SELECT runs.run_uuid, status, value FROM runs LEFT JOIN tags
ON tags.run_uuid = runs.run_uuid AND key = 'psvae_tune.trial_id' WHERE lifecycle_stage = 'active'
"""
_LINKS = """
SELECT count(*) FROM inputs WHERE destination_id NOT IN
(SELECT model_id FROM logged_models WHERE lifecycle_stage = 'deleted')
"""


def read(root: Path, store: Path) -> dict[str, Any]:
    """Return everything that a study has made, by what it is, without what it cost.

    Parameters
    ----------
    root
        Folder of the study's output folder.
    store
        Folder of the store's database and artifacts.
    """
    found: dict[str, Any] = {}
    with closing(sqlite3.connect(store / "mlflow.db")) as database:

        def rows(text: str) -> list[tuple[Any, ...]]:
            return database.execute(text).fetchall()

        names = {}
        for run, status, trial in rows(_RUNS):
            names[run] = trial or "study"
            found[f"status of {names[run]}"] = status
            found[f"files of {names[run]}"] = _list_files(store / "artifacts", run)
        found["runs"] = dict(Counter(names.values()))
        for table, columns in (
            ("params", "key, value"),
            ("tags", "key, value"),
            ("metrics", "key, step, value"),
        ):
            counts: Counter[str] = Counter()
            for run, key, *values in rows(f"SELECT run_uuid, {columns} FROM {table}"):
                is_kept = key in TAGS if table == "tags" else not key.startswith("perf/")
                if run in names and is_kept:
                    counts[f"{names[run]} {key} {values}".replace(str(root), "")] += 1
            found[table] = dict(counts)
        found["models"] = rows(
            "SELECT name, status FROM logged_models WHERE lifecycle_stage = 'active'"
        )
        found["datasets and models of runs"] = rows(_LINKS)
    found["choice"] = json.loads(
        (root / "out/study/selection.json").read_text().replace(str(root), "")
    )
    left = (root / "out/study").rglob("*")
    found["study folder"] = sorted(path.name for path in left if path.name != "lock")
    found["events"] = _count_events(root / "out/study/journal.jsonl")
    return found


def _list_files(artifacts: Path, run: str) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for folder in artifacts.glob(f"**/{run}/artifacts")
        for path in folder.rglob("*")
        if path.is_file()
    )


def _count_events(journal: Path) -> dict[str, int]:
    """Count the suggestions and the ends of each trial."""
    counts: Counter[str] = Counter()
    for line in journal.read_bytes().splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the process that wrote it was killed, and wrote the rest anew
        if event["event"] in ("ask", "end"):
            counts[f"{event['event']} {event['trial']}"] += 1
    return dict(counts)


def compare(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return a sentence for everything that is not as it should be."""
    problems = []
    for name in {**expected, **found}:
        before, after = expected.get(name), found.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            changed = [k for k in {**before, **after} if before.get(k) != after.get(k)]
            before = {k: before.get(k) for k in changed}
            after = {k: after.get(k) for k in changed}
        if before != after:
            problems.append(f"{name}: {before!s:.300} became {after!s:.300}")
    return problems

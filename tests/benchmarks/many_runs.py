"""How long do `report` and `select` take of a study with many runs, and MLflow's page of it?

    python -m tests.benchmarks.many_runs [N_RUNS]

One trial is fitted on the generated recording and logged; the store then gets as many copies of
its run, with other settings and numbers, straight into its database. Prints a Markdown table.
"""

import json
import sqlite3
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from psvae_tune.data.demo import write_demo
from tests.support.command import psvae_tune
from tests.support.logged_studies import log_study, with_space
from tests.support.loopback import serve_mlflow

N_EPOCHS = 30
TABLES = ("runs", "tags", "params", "metrics", "latest_metrics", "inputs")


def multiply(database: Path, n_runs: int) -> None:
    """Copy the trial's run until there are so many. Side effects: writes to the database."""
    rng = np.random.default_rng(0)
    with closing(sqlite3.connect(database)) as store, store:
        store.row_factory = sqlite3.Row
        (run_id,) = store.execute(
            "SELECT run_uuid FROM tags WHERE key = 'psvae_tune.kind' AND value = 'trial'"
        ).fetchone()
        for table in TABLES:
            key = "destination_id" if table == "inputs" else "run_uuid"
            rows = store.execute(f"SELECT * FROM {table} WHERE {key} = ?", (run_id,)).fetchall()
            copies = []
            for number in range(1, n_runs):
                change = f"{number:032x}"
                factor = float(rng.uniform(0.5, 1.5))
                copies += [
                    tuple(_vary(table, dict(row) | {key: change}, number, factor).values())
                    for row in rows
                ]
            marks = ", ".join("?" * len(copies[0])) if copies else ""
            store.executemany(f"INSERT INTO {table} VALUES ({marks})", copies) if copies else None


def _vary(table: str, row: dict, number: int, factor: float) -> dict:
    if table == "runs":
        row["name"] = f"alpha={number}"
    elif table == "inputs":
        row["input_uuid"] = f"{number:08x}{row['input_uuid'][8:]}"
    elif table == "params" and row["key"] == "ps_vae.alpha":
        row["value"] = str(float(number))
    elif table == "tags" and row["key"] in ("psvae_tune.trial_id", "mlflow.runName"):
        row["value"] = f"alpha={number}"
    elif table == "tags" and row["key"] == "psvae_tune.selected":
        row["key"] = "psvae_tune.was_selected"
    elif "metrics" in table and not row["key"].startswith("perf/"):
        row["value"] *= factor
    return row


def ask(uri: str, path: str, body: dict | None = None) -> bytes:
    """Ask the server as its page does."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(uri + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return answer.read()


def page(uri: str) -> None:
    """Ask for what the chart page of an experiment asks for: its runs, and curves of a hundred."""
    (experiment,) = [
        item
        for item in json.loads(
            ask(uri, "/ajax-api/2.0/mlflow/experiments/search", {"max_results": 100})
        )["experiments"]
        if item["name"] != "Default"
    ]
    runs = json.loads(
        ask(
            uri,
            "/ajax-api/2.0/mlflow/runs/search",
            {"experiment_ids": [experiment["experiment_id"]], "max_results": 100},
        )
    )["runs"]
    names = "&".join(f"run_ids={run['info']['run_id']}" for run in runs)
    for key in ("train/loss", "val/frame_mse"):
        ask(
            uri,
            f"/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?{names}"
            f"&metric_key={key}&max_results=320",
        )


def main() -> None:
    """Make the store, and time the commands."""
    n_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seconds = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        session = folder / "demo.h5"
        write_demo(session, n_clips=12, clip_length=20, size=16)
        raw = with_space({"ps_vae.alpha": {"grid_search": [0.5]}})
        raw["training"]["max_n_epochs"] = N_EPOCHS
        log_study(folder, session, "study", raw)
        multiply(folder / "mlflow.db", n_runs)
        options = ("--output", folder)

        def measure(what, call) -> None:
            begin = time.perf_counter()
            call()
            seconds[what] = time.perf_counter() - begin

        measure("psvae-tune report", lambda: psvae_tune("report", "study", *options))
        choice = ("choose", "study", "--trial", "alpha=7")
        measure("psvae-tune choose", lambda: psvae_tune(*choice, *options))
        with serve_mlflow(folder) as uri:
            remote = ("report", "study", "--tracking-uri", uri)
            measure("psvae-tune report, from a server", lambda: psvae_tune(*remote))
            measure("MLflow's chart page", lambda: page(uri))
    print(f"| a study of {n_runs} runs, {N_EPOCHS} epochs each | seconds |\n|---|---|")
    for what, value in seconds.items():
        print(f"| {what} | {value:.1f} |")


if __name__ == "__main__":
    main()

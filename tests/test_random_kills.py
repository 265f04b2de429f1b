"""A driver that is killed again and again, at moments that nothing chose."""

import json
import signal
import subprocess
from collections import Counter

import mlflow
import numpy as np
import pytest
import yaml
from test_study_end_to_end import STUDY, command, finish, metrics_of, runs_of

from psvae_tune.data.demo import write_demo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

N_KILLS = 10
N_EPOCHS = 30
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


def make_study(folder):
    folder.mkdir()
    write_demo(folder / "demo.h5", n_clips=12, clip_length=20, size=16)
    training = {**STUDY["training"], "max_n_epochs": N_EPOCHS}
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump({**STUDY, "training": training, "search": {"stages": STAGES}}))
    return ("run", str(file), "--output", "out", "--name", "study")


def test_a_study_killed_ten_times_ends_as_if_it_had_not_been(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    out, _ = finish(command(whole, *make_study(whole)))
    call = make_study(killed)
    rng = np.random.default_rng(0)
    n_kills = 0
    for seconds in rng.uniform(1, 20, size=N_KILLS):
        process = command(killed, *call)
        try:
            process.communicate(timeout=seconds)
            assert process.returncode == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            n_kills += 1
        if (killed / "out/study/study.yaml").exists():
            call = ("resume", "out/study")
    assert n_kills >= N_KILLS // 2
    again, _ = finish(command(killed, *call))

    assert metrics_of(killed) == metrics_of(whole)
    picks = [[line for line in text.splitlines() if "pick  " in line] for text in (out, again)]
    assert picks[0] == picks[1]
    trials, studies = runs_of(killed, "trial"), runs_of(killed, "study")
    assert {run.info.status for run in [*trials, *studies]} == {"FINISHED"}
    assert len(studies) == 1
    assert len(trials) == len({run.data.tags["psvae_tune.trial_id"] for run in trials}) == 5
    client = mlflow.MlflowClient(f"sqlite:///{killed / 'out' / 'mlflow.db'}")
    for run in trials:
        history = client.get_metric_history(run.info.run_id, "val/frame_mse")
        assert [item.step for item in history] == list(range(1, N_EPOCHS + 1))
    journal = (killed / "out/study/journal.jsonl").read_text().splitlines()
    ends = [event for event in map(json.loads, journal) if event["event"] == "end"]
    assert set(Counter(event["trial"] for event in ends).values()) == {1}

"""A trial whose loss explodes, beside others."""

import json

import pytest
import yaml

from tests.support import audit
from tests.support.tiny_study import command, finish

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_trial_that_explodes_fails_by_name_and_the_study_goes_on(tmp_path):
    audit.make_study(tmp_path)
    raw = yaml.safe_load((tmp_path / "study.yaml").read_text())
    raw["training"]["max_n_epochs"] = 4
    raw["search"] = {
        "space": {"learning_rate": {"grid_search": [1.0e30, 0.003]}},
        "objectives": {"val/frame_mse": "min"},
    }
    raw["resources"] = {"max_concurrent_trials": 1}
    raw["model"]["ps_vae.alpha"] = 10
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw))
    call = ("run", "study.yaml", "--output", "out", "--name", "study")
    out, err = finish(command(tmp_path, *call))
    assert "pick       learning_rate=0.003" in out
    (line,) = [line for line in err.splitlines() if "failed" in line]
    assert "learning_rate=1e+30" in line
    reason = json.loads(
        next(
            line
            for line in (tmp_path / "out/study/journal.jsonl").read_text().splitlines()
            if '"outcome": "failed"' in line
        )
    )["reason"]
    assert reason.startswith("training: the term `")
    assert "` is no longer finite in epoch 1" in reason
    assert reason.splitlines()[0] in line
    runs = {run.info.run_name: run for run in audit.Store.beside(tmp_path).trials()}
    assert runs["learning_rate=0.003"].info.status == "FINISHED"
    assert runs["learning_rate=1e+30"].info.status == "FAILED"
    assert runs["learning_rate=1e+30"].data.tags["psvae_tune.stop_reason"] == reason

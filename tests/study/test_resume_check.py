"""A study that goes on must be the one that began."""

import copy
from dataclasses import replace

import pytest

from psvae_tune.errors import StorageError
from psvae_tune.study.resume_check import check_unchanged, note_what_was_asked
from psvae_tune.tracking.folders import StudyFolder
from tests.support.studies import make_session

RAW = {
    "experiment_name": "x",
    "model": {"model_class": "ps-vae", "ps_vae.beta": 1},
    "training": {"checkpoint_every": 5, "learning_rate": 1e-3},
    "search": {
        "stages": [
            {"name": "alpha", "num_trials": 4, "space": {"ps_vae.alpha": {"choice": [1, 2]}}},
            {"name": "beta", "seed": 3},
        ]
    },
}


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    note_what_was_asked(folder, RAW, [make_session()])
    return folder


def changed(place, value):
    raw = copy.deepcopy(RAW)
    node = raw
    for part in place[:-1]:
        node = node.setdefault(part, {}) if isinstance(part, str) else node[part]
    node[place[-1]] = value
    return raw


def test_a_study_that_has_not_begun_may_be_anything(tmp_path):
    check_unchanged(StudyFolder(tmp_path / "new"), RAW, [make_session()])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["search", "stages", 0, "num_trials"], 9),
        (["search", "stages", 1, "num_epochs"], 100),
        (["search", "stages", 1, "time_budget_h"], 2.5),
        (["training", "checkpoint_every"], 1),
        (["resources", "max_concurrent_trials"], 4),
        (["experiment_name"], "x"),
    ],
)
def test_budgets_and_resources_may_change(folder, place, value):
    check_unchanged(folder, changed(place, value), [make_session()])


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["model", "ps_vae.beta"], 2, "model.ps_vae.beta was 1, is 2"),
        (["model", "l2_reg"], 0.5, "model.l2_reg was absent, is 0.5"),
        (["search", "stages", 1, "seed"], 4, "search.stages.beta.seed was 3, is 4"),
        (
            ["search", "stages", 0, "space", "ps_vae.alpha"],
            {"choice": [1, 3]},
            "search.stages.alpha.space.ps_vae.alpha.choice was [1, 2], is [1, 3]",
        ),
        (["search"], {"seed": 1}, "search.stages was {"),
    ],
)
def test_other_changes_are_named(folder, place, value, message):
    with pytest.raises(StorageError, match="--accept-changes") as caught:
        check_unchanged(folder, changed(place, value), [make_session()])
    assert any(message in problem for problem in caught.value.problems)


def test_all_changes_are_named_at_once(folder):
    raw = changed(["model", "ps_vae.beta"], 2)
    raw["training"]["learning_rate"] = 1
    session = replace(make_session(), digest="another")
    with pytest.raises(StorageError) as caught:
        check_unchanged(folder, raw, [session])
    assert len(caught.value.problems) == 3
    assert "the contents of session_0.h5 have changed" in caught.value.problems


def test_what_was_accepted_once_is_what_counts_from_then_on(folder):
    raw = changed(["model", "ps_vae.beta"], 2)
    note_what_was_asked(folder, raw, [make_session()])
    check_unchanged(folder, raw, [make_session()])
    with pytest.raises(StorageError, match="was 2, is 1"):
        check_unchanged(folder, RAW, [make_session()])

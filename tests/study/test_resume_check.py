"""A study that goes on must be the one that began."""

import copy
from dataclasses import replace

import pytest

from psvae_tune.errors import StorageError
from psvae_tune.study.resume_check import check_unchanged, note_request
from psvae_tune.tracking.folders import StudyFolder
from tests.support.studies import make_session

CONTENTS = {
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
    note_request(folder, CONTENTS, [make_session()])
    return folder


def changed(place, value):
    contents = copy.deepcopy(CONTENTS)
    node = contents
    for part in place[:-1]:
        node = node.setdefault(part, {}) if isinstance(part, str) else node[part]
    node[place[-1]] = value
    return contents


def test_a_study_that_has_not_begun_may_be_anything(tmp_path):
    check_unchanged(StudyFolder(tmp_path / "new"), CONTENTS, [make_session()])


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
    contents = changed(["model", "ps_vae.beta"], 2)
    contents["training"]["learning_rate"] = 1
    session = replace(make_session(), digest="another")
    with pytest.raises(StorageError) as caught:
        check_unchanged(folder, contents, [session])
    assert len(caught.value.problems) == 3
    assert "the contents of session_0.h5 have changed" in caught.value.problems


def test_what_was_accepted_once_is_what_counts_from_then_on(folder):
    contents = changed(["model", "ps_vae.beta"], 2)
    note_request(folder, contents, [make_session()])
    check_unchanged(folder, contents, [make_session()])
    with pytest.raises(StorageError, match="was 2, is 1"):
        check_unchanged(folder, CONTENTS, [make_session()])


@pytest.mark.parametrize(("n_latents", "is_the_same"), [(4, True), (5, False)])
def test_a_study_that_kept_a_count_relative_to_the_labels_goes_on(folder, n_latents, is_the_same):
    """Earlier versions kept the file as it was written, and these recordings have two labels."""
    contents = changed(["model", "n_ae_latents"], "n_labels + 2")
    event = {"event": "request", "stage": None, "study": contents, "sessions": {}}
    folder.journal.append(event)
    now = changed(["model", "n_ae_latents"], n_latents)
    if is_the_same:
        check_unchanged(folder, now, [make_session()])
    else:
        with pytest.raises(StorageError, match="n_ae_latents was 4, is 5"):
            check_unchanged(folder, now, [make_session()])

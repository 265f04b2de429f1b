"""Which labels a file hides, and what is refused."""

import copy

import pytest
import yaml

from psvae_tune.config.hidden_labels import find_labels, resolve_hidden_labels
from psvae_tune.config.study import parse_unread_study
from psvae_tune.errors import ConfigError
from psvae_tune.study.plan import make_plan
from tests.support.command import ROOT
from tests.support.studies import make_config

NAMES = ("paw_left_x", "paw_right_x", "tail_x", "paw_left_y", "paw_right_y", "tail_y")


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("tail_x", ["tail_x"]),
        (["tail_y", "tail_x"], ["tail_x", "tail_y"]),
        ("paw_*", ["paw_left_x", "paw_right_x", "paw_left_y", "paw_right_y"]),
        (["*_x", "tail*"], ["paw_left_x", "paw_right_x", "tail_x", "tail_y"]),
        ([], []),
    ],
)
def test_names_and_patterns_stand_for_labels_in_the_order_of_the_recording(patterns, expected):
    assert find_labels(patterns, NAMES, "here") == expected


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ("tial_x", "here: fits no label of the recordings, got 'tial_x'; did you mean `tail_x`"),
        (["tail_x", "ear*"], "fits no label of the recordings, got 'ear\\*'; there are paw_left"),
        (3, "must be names or patterns of labels, got 3"),
        ([3], "must be names or patterns of labels, got \\[3\\]"),
        ({"each": "limb"}, "must be names or patterns of labels"),
    ],
)
def test_a_pattern_that_fits_no_label_is_one_error(patterns, message):
    with pytest.raises(ConfigError) as error:
        find_labels(patterns, NAMES, "here")
    assert error.match(message.replace("; ", "(.|\n)*"))


def test_each_part_becomes_a_dimension_of_the_stages_that_hide_nothing_themselves():
    stages = [{"space": {"ps_vae.beta": 1}}, {"space": {"hidden_labels": {"grid_search": [[]]}}}]
    raw = {"data": {"hidden_labels": {"each": "part"}}, "search": {"stages": stages}}
    before = copy.deepcopy(raw)
    found = resolve_hidden_labels(raw, NAMES)
    parts = [["paw_left_x", "paw_left_y"], ["paw_right_x", "paw_right_y"], ["tail_x", "tail_y"]]
    first, second = (stage["space"]["hidden_labels"] for stage in found["search"]["stages"])
    assert first == {"grid_search": parts}
    assert second == {"grid_search": [[]]}
    assert found["data"]["hidden_labels"] == []
    assert raw == before


@pytest.fixture
def contents(root):
    return yaml.safe_load((root / "search_spaces/ps_vae_hidden.yaml").read_text())


def test_the_file_that_hides_parts_keeps_its_names(contents):
    plan = make_plan(contents, "f.yaml")
    hidden = plan.study.stages[0].space["hidden_labels"].values
    assert list(map(list, hidden)) == [
        ["paw_left_x", "paw_left_y"],
        ["paw_right_x", "paw_right_y"],
    ]


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("data", {"hidden_labels": "ear"}, "data.hidden_labels: fits no label"),
        ("space", {"grid_search": ["*"]}, "hides all labels, and `ps-vae` needs some, got 4"),
        ("space", {"grid_search": ["ear"]}, "space.hidden_labels: fits no label"),
        ("space", {"grid_search": ["*", "paw*"]}, "the same value twice"),
        ("model", {"n_ae_latents": 2}, "n_ae_latents: must be at least 4"),
        ("none", {}, "needs hidden labels, got 'val/hidden_correlation'"),
    ],
)
def test_what_cannot_be_hidden_is_refused_before_training(contents, section, changes, message):
    space = contents["search"]["stages"][0]["space"]
    if section == "space":
        space["hidden_labels"] = changes
    elif section == "none":
        del space["hidden_labels"]
    else:
        contents[section] |= changes
    with pytest.raises(ConfigError, match=message):
        make_plan(contents, "f.yaml")


@pytest.mark.parametrize("file", sorted((ROOT / "search_spaces").glob("*.yaml")), ids=str)
def test_shipped_files_can_be_checked_before_their_recordings_are_read(file):
    parse_unread_study(yaml.safe_load(file.read_text()), "f.yaml")


@pytest.mark.parametrize(
    "stage",
    [
        {"num_trials": 8},
        {"algorithm": "optuna", "num_trials": 3},
        {"algorithm": "optuna", "num_trials": 3, "domain": {"choice": ["paw_left*", "*right_x"]}},
        {"domain": {"grid_search": ["paw_left*"]}, "num_trials": 4},
    ],
    ids=str,
)
def test_hidden_labels_go_with_every_algorithm_and_budget(contents, stage):
    own, domain = contents["search"]["stages"][0], stage.pop("domain", {"each": "part"})
    own |= stage
    own["space"]["hidden_labels"] = domain
    if "algorithm" in stage:
        own["space"]["ps_vae.beta"] = {"uniform": [1, 20]}
    values = make_plan(contents, "f.yaml").study.stages[0].space["hidden_labels"].values
    assert values[0] == ["paw_left_x", "paw_left_y"]


def test_a_name_that_looks_like_a_pattern_is_a_name():
    assert find_labels(["paw[1]_x"], ["paw[1]_x", "paw1_x"], "here") == ["paw[1]_x"]


def test_nothing_is_hidden_by_an_empty_setting():
    assert find_labels(None, NAMES, "here") == []


def test_no_trial_goes_on_from_one_that_does_not_see_all_labels(contents):
    path = {"name": "path", "start_from": "chosen", "epochs": 3}
    path |= {"space": {"ps_vae.beta": {"grid_search": [1, 2]}}}
    path["objectives"] = {"val/frame_mse": "min"}
    contents["search"]["stages"].insert(1, path)
    with pytest.raises(ConfigError, match=r"path.start_from: no trial can go on from those of"):
        make_plan(contents, "f.yaml")


def test_a_stopped_fit_would_be_one_of_a_hard_part(contents):
    stage = contents["search"]["stages"][0]
    stage["scheduler"] = "asha"
    stage["objectives"] = {"val/frame_mse": "min"}
    stage["select"] = {"best": "val/frame_mse"}
    with pytest.raises(ConfigError, match="compares means over hidden_labels"):
        make_plan(contents, "f.yaml")


@pytest.mark.parametrize("hidden", [["paw_left_x"], ["paw_left_x", "paw_right_y"]])
def test_a_conditional_encoder_sees_whole_points(contents, hidden):
    for name in ("ps_vae.alpha", "ps_vae.anneal_epochs", "decoder_variance"):
        del contents["model"][name]
    contents["model"] |= {"model_class": "cond-ae", "conditional_encoder": True}
    stage = contents["search"]["stages"][0]
    stage["space"] = {"hidden_labels": {"grid_search": [hidden]}}
    stage["objectives"], stage["select"] = {"val/frame_mse": "min"}, {"best": "val/frame_mse"}
    contents["search"]["stages"] = [stage]
    with pytest.raises(ConfigError, match="a conditional encoder needs an x and a y"):
        make_plan(contents, "f.yaml")


def test_a_model_whose_latents_are_all_supervised_can_find_nothing(contents):
    del contents["search"]["stages"][0]["select"]
    contents["search"]["stages"] = contents["search"]["stages"][:1]
    contents["model"] |= {"model_class": "cond-ae-msp", "n_ae_latents": 2, "msp.alpha": 1}
    for name in ("ps_vae.alpha", "ps_vae.anneal_epochs", "decoder_variance"):
        del contents["model"][name]
    stage = contents["search"]["stages"][0]
    stage["space"] = {"msp.alpha": {"grid_search": [1]}, "hidden_labels": {"each": "part"}}
    with pytest.raises(ConfigError, match="n_ae_latents"):
        make_plan(contents, "f.yaml")


def test_a_trial_that_hides_nothing_is_what_it_was_and_one_that_does_another():
    config = make_config()
    hidden = config.with_params({"hidden_labels": ["label_0"]})
    assert hidden.trial_id(["x"]) != config.trial_id(["x"])
    assert hidden.params["hidden_labels"] == '["label_0"]'
    assert hidden.with_params({"hidden_labels": []}) == config
    assert (config.count_unsupervised(2), hidden.count_unsupervised(2)) == (2, 3)

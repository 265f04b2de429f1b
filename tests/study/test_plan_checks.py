"""A study and its recordings, checked together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from psvae_tune.data.session_file import write_session
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.study.plan import make_plan

MSPS = {
    "model_class": "msps-vae",
    "n_ae_latents": 6,
    "n_background": 1,
    "ps_vae.alpha": 1,
    "ps_vae.beta": 1,
    "ps_vae.delta": 1,
    "ps_vae.anneal_epochs": 0,
}
COND = {"model_class": "cond-ae", "n_ae_latents": 2, "conditional_encoder": True}
SMALL = {
    "ae_encoding_n_channels": [2],
    "ae_encoding_kernel_size": [3],
    "ae_encoding_stride_size": [2],
}


@pytest.fixture
def make_session(tmp_path):
    def make(name: str, shape=(1, 8, 8), labels=("a_x", "a_y"), has_labels_sc=True) -> str:
        rng = np.random.default_rng(len(name))
        values = rng.uniform(0, 8, (30, len(labels))).astype(np.float32) if labels else None
        path = tmp_path / f"{name}.h5"
        write_session(
            path,
            rng.integers(0, 256, (30, *shape), dtype=np.uint8),
            [3] * 10,
            label_names=labels,
            labels=values,
            labels_sc=values if has_labels_sc else None,
        )
        return str(path)

    return make


def study(sessions: list[str], model: dict[str, Any], **stage: Any) -> dict[str, Any]:
    search = {
        "space": {"rng_seed_model": {"grid_search": [0]}},
        "objectives": {"val/frame_mse": "min"},
    }
    return {
        "experiment_name": "x",
        "data": {"sessions": sessions},
        "model": {"ae_arch_json": SMALL, **model},
        "search": {**search, **stage},
    }


def test_sessions_that_go_together(make_session):
    plan = make_plan(study([make_session("a"), make_session("bb")], MSPS), "file")
    assert [Path(header.path).name for header in plan.headers] == ["a.h5", "bb.h5"]
    assert plan.count_split_frames() == {"train": 48, "val": 6, "test": 6}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (1, 8, 10)}, r"frames must be \(1, 8, 8\).*got \(1, 8, 10\)"),
        ({"shape": (2, 8, 8)}, r"frames must be \(1, 8, 8\).*got \(2, 8, 8\)"),
        ({"labels": ("a_x", "b_y")}, r"labels must be those of .*\(a_x, a_y\), got a_x, b_y"),
        ({"labels": ("a_y", "a_x")}, "labels must be those of"),
        ({"labels": ("a_x",)}, "labels must be those of"),
    ],
)
def test_sessions_that_do_not(make_session, change, message):
    with pytest.raises(DataError, match=message):
        make_plan(study([make_session("a"), make_session("bb", **change)], MSPS), "file")


def test_labels_in_one_session_only(make_session):
    sessions = [make_session("a"), make_session("bb", labels=())]
    with pytest.raises(DataError, match="got none"):
        make_plan(study(sessions, {"model_class": "ae", "n_ae_latents": 2}), "file")


def test_a_session_listed_twice(make_session):
    path = make_session("a")
    with pytest.raises(DataError, match=r"may be listed once, got .*a\.h5 2 times"):
        make_plan(study([path, path], MSPS), "file")


@pytest.mark.parametrize(
    ("model", "stage", "message"),
    [
        ({"n_sessions_per_batch": 3}, {}, r"model\.n_sessions_per_batch: must be at most the 2"),
        (
            {},
            {"space": {"n_sessions_per_batch": {"grid_search": [2, 4]}}},
            r"space\.n_sessions_per_batch: must be at most the 2 sessions, got 4",
        ),
        (
            {},
            {"space": {"n_background": {"grid_search": [1, 5]}}},
            r"model\.n_ae_latents: must be at least 7 for 2 labels, got 6",
        ),
        ({"n_ae_latents": 2}, {}, r"model\.n_ae_latents: must be at least 3 for 2 labels, got 2"),
    ],
)
def test_more_than_the_sessions_hold(make_session, model, stage, message):
    sessions = [make_session("a"), make_session("bb")]
    with pytest.raises(ConfigError, match=message):
        make_plan(study(sessions, MSPS | model, **stage), "file")


def test_one_session_is_too_few(make_session):
    with pytest.raises(ConfigError, match="`msps-vae` needs at least 2 sessions, got 1"):
        make_plan(study([make_session("a")], MSPS), "file")


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ({"model_class": "ae", "n_ae_latents": 2}, "val/session_accuracy_u"),
        ({"model_class": "ae", "n_ae_latents": 2}, "val/leak_r2"),
    ],
)
def test_metrics_that_the_recordings_cannot_give(make_session, model, key):
    raw = study([make_session("a", labels=())], model, objectives={key: "min"})
    with pytest.raises(ConfigError, match=f"needs .* got '{key}'"):
        make_plan(raw, "file")


PS = {
    "model_class": "ps-vae",
    "n_ae_latents": 3,
    "ps_vae.alpha": 1,
    "ps_vae.beta": 1,
    "ps_vae.anneal_epochs": 0,
}


@pytest.mark.parametrize(
    ("rule", "needed"),
    [
        ({"best": "val/latent_correlation"}, 2),
        ({"best": "val/frame_mse", "require": {"val/hsic": "<= 0.5"}}, 2),
        ({"best": "val/frame_mse", "require": {"val/active_units": ">= 3"}}, 3),
        ({"knee": ["val/frame_mse", "val/gaussian_tc"]}, 2),
        ({"best": "val/leak_r2"}, 1),
        ({"best": "val/frame_mse", "require": {"val/active_units": "all"}}, 0),
    ],
)
@pytest.mark.parametrize("n_unsupervised", [0, 1, 2, 3])
def test_a_rule_needs_latents_that_a_trial_can_have(make_session, rule, needed, n_unsupervised):
    path = make_session("a")
    space = {"n_ae_latents": {"grid_search": [2, 2 + n_unsupervised][n_unsupervised == 0 :]}}
    raw = study([path], PS, select=rule, space=space)
    if n_unsupervised < needed:
        with pytest.raises(ConfigError, match=r"unsupervised latents?"):
            make_plan(raw, "file")
    else:
        make_plan(raw, "file")


@pytest.mark.parametrize("key", ["val/mig", "val/sap", "val/dci_completeness"])
@pytest.mark.parametrize("n_latents", [1, 2])
def test_a_lead_over_the_next_latent_needs_two(make_session, key, n_latents):
    raw = study([make_session("a")], {"model_class": "ae", "n_ae_latents": n_latents})
    raw["search"]["select"] = {"best": key}
    if n_latents == 1:
        with pytest.raises(ConfigError, match=f"needs 2 latents, got '{key}' with 1"):
            make_plan(raw, "file")
    else:
        make_plan(raw, "file")


def test_every_trial_needs_the_metric_of_its_best_epoch(make_session):
    path = make_session("a")
    space = {"n_ae_latents": {"grid_search": [3, 4]}}
    raw = study([path], PS, space=space)
    raw["training"] = {"best_epoch_metric": "val/gaussian_tc"}
    with pytest.raises(ConfigError, match=r"best_epoch_metric: needs 2 unsupervised latents"):
        make_plan(raw, "file")
    space["n_ae_latents"]["grid_search"] = [4, 5]
    make_plan(raw, "file")


def test_a_score_that_compares_labels_needs_two(make_session):
    one = make_session("a", labels=("x",), has_labels_sc=False)
    raw = study([one], PS, objectives={"val/dci_completeness": "max"})
    with pytest.raises(ConfigError, match=r"needs 2 labels, got 'val/dci_completeness' with 1"):
        make_plan(raw, "file")
    make_plan(study([make_session("bb")], PS, objectives={"val/dci_completeness": "max"}), "file")


@pytest.mark.parametrize("is_searched", [False, True])
@pytest.mark.parametrize(
    ("session", "message"),
    [
        ({"labels": ("x", "y", "z")}, r"got an odd number of labels \(3\)"),
        ({"has_labels_sc": False}, r"needs `labels_sc`, got none in .*a\.h5"),
    ],
)
def test_conditional_encoder_needs_points(make_session, session, message, is_searched):
    raw = study([make_session("a", **session)], COND)
    if is_searched:
        raw["model"] = raw["model"] | {"conditional_encoder": False}
        raw["search"]["space"] = {"conditional_encoder": {"grid_search": [False, True]}}
    with pytest.raises(ConfigError, match=message):
        make_plan(raw, "file")


def test_an_architecture_that_leaves_nothing(make_session):
    layers = {
        "ae_padding_type": "valid",
        "ae_encoding_n_channels": [2, 2],
        "ae_encoding_kernel_size": [5, 5],
        "ae_encoding_stride_size": [2, 2],
    }
    raw = study([make_session("a")], COND | {"ae_arch_json": layers})
    with pytest.raises(ConfigError, match="shrinks frames of 8x8 pixels to nothing"):
        make_plan(raw, "file")

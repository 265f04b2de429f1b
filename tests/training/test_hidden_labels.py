"""A model never sees hidden labels, and its latents are held against them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import psvae_tune as pt
from psvae_tune.errors import ConfigError
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.final_metrics import final_metrics
from psvae_tune.training.fit import best_model, fit, start
from tests.support.studies import ARCHITECTURE, make_config, make_session

CPU = torch.device("cpu")
HIDING = {"hidden_labels": ["label_0"], "trial_splits": "6;2;2;0"}
HIDDEN = ("hidden_correlation", "hidden_r2", "hidden_gain")


def train(session, **data):
    config = make_config(data=data)
    prepared = prepare_data([session], config)
    state = start(config, prepared, CPU)
    for _ in fit(state, prepared, config):
        pass
    model = best_model(state)
    return model, final_metrics(model, prepared, CPU)


@pytest.fixture(scope="module")
def hidden():
    return train(make_session(masked=0.1), **HIDING)


def test_a_hidden_label_changes_nothing_of_the_fit(hidden):
    session = make_session(masked=0.1)
    labels = session.labels.copy()
    labels[:, 0] = np.random.default_rng(1).normal(size=len(labels))
    model, scores = train(replace(session, labels=labels), **HIDING)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, hidden[0].state_dict()[name], rtol=0, atol=0)
    changed = {key for key in scores if scores[key] != hidden[1][key]}
    assert changed
    assert all("hidden_" in key for key in changed)


def test_the_metrics_of_hidden_labels_come_with_their_errors(hidden):
    _, scores = hidden
    for name in HIDDEN:
        assert {f"val/{name}", f"test/{name}", f"val/{name}_error"} <= scores.keys()
    assert scores["val/hidden_correlation/label_0"] == scores["val/hidden_correlation"]
    assert 0 <= scores["test/hidden_correlation"] <= 1
    assert "val/label_r2/label_0" not in scores
    assert "val/label_r2/label_1" in scores


def test_a_camera_that_shows_other_places_is_no_movement():
    sessions = [make_session(seed) for seed in (0, 1)]
    moved = replace(sessions[1], labels=sessions[1].labels + np.float32(50))
    config = make_config(data=HIDING)
    data = prepare_data([sessions[0], moved], config)
    for item, session in zip(data.sessions, sessions, strict=True):
        rows = np.concatenate([np.r_[session.clip(i)] for i in item.splits.train])
        truth = session.labels[rows, :1]
        expected = (truth - truth.mean()) / truth.std()
        np.testing.assert_allclose(item.hidden.labels[rows], expected, atol=1e-4)


def test_a_model_that_hides_nothing_has_no_such_metrics():
    _, scores = train(make_session())
    assert not [key for key in scores if "hidden_" in key]


def test_one_fit_in_python_hides_labels_by_patterns():
    given = {
        "model_class": "vae",
        "n_ae_latents": 2,
        "max_n_epochs": 1,
        "ae_arch_json": ARCHITECTURE,
        "hidden_labels": "label*",
    }
    found = pt.fit(make_session(), given).metrics
    assert {f"test/{name}" for name in HIDDEN} <= found.keys()
    with pytest.raises(ConfigError, match="fits no label of the recordings, got 'ear'"):
        pt.fit(make_session(), given | {"hidden_labels": "ear"})

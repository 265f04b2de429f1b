"""What is said of latents whose meaning is known."""

import numpy as np
import pytest

from psvae_tune.config.trial import parse_trial_config
from psvae_tune.models.latents import Partition
from psvae_tune.results.figures.latent_words import (
    describe_latents,
    describe_sessions,
    session_shares,
)
from psvae_tune.training.batches import prepare_data


@pytest.fixture
def hidden_data(demo_session):
    """Two recordings of which one label is hidden."""
    name = demo_session.header.label_names[0]
    raw = {
        "model": {"model_class": "vae", "n_ae_latents": 5},
        "data": {"hidden_labels": [name]},
    }
    return prepare_data([demo_session, demo_session], parse_trial_config(raw, "test"))


def test_a_latent_is_told_by_what_it_moves_with(hidden_data):
    rng, latents = np.random.default_rng(0), []
    for index, item in enumerate(hidden_data.sessions):
        free = rng.normal(size=(len(item.labels), 4)) * [1, 0.01, 0.01, 0.01]
        free[:, 1] += -item.hidden.labels[:, 0]
        free[:, 2] += 5 * item.labels[:, 1]
        free[:, 3] += index
        latents.append(np.concatenate([item.labels, free], axis=1))
    told = describe_latents(latents, item.labels.shape[1], hidden_data)
    assert told[:4] == [""] * 4
    assert told[4].startswith(f"finds {item.hidden.names[0]}, r² ")
    assert told[5].startswith(f"leaks {hidden_data.label_names[1]}, r² 1.00")
    assert told[6] == "tells sessions apart, η² 1.00"


def test_each_block_is_told_by_how_far_it_knows_the_session(hidden_data):
    rng, n_frames = np.random.default_rng(0), len(hidden_data.sessions[0].labels)
    latents = [
        rng.normal(size=(n_frames, 6)) + index * np.array([0, 0, 0, 9, 0, 0]) for index in range(2)
    ]
    blind, knowing, alike = describe_sessions(latents, Partition(3, 1, 2), hidden_data)
    assert [blind["block"], knowing["block"], alike["block"]] == [
        "supervised", "background", "unsupervised"
    ]  # fmt: skip
    assert knowing["session_accuracy"] == 1
    assert knowing["cluster_ami"] > 0.3  # eight clusters of two sessions
    assert knowing["sessions_per_cluster"] < 1.1
    assert knowing["foreign_neighbours"] < 0.01
    for row in (blind, alike):
        assert row["session_accuracy"] < 0.65
        assert abs(row["cluster_ami"]) < 0.02
        assert row["foreign_neighbours"] > 0.8 * row["foreign_neighbours_by_chance"]


def test_the_share_of_sessions_is_that_of_an_analysis_of_variance():
    rng = np.random.default_rng(1)
    sessions = rng.integers(0, 3, 200)
    latents = rng.normal(size=(200, 2)) + sessions[:, None] * [0.0, 1.0]
    latents = np.concatenate([latents, np.ones((200, 1))], axis=1)
    found = session_shares(latents, sessions)
    for k in range(2):
        z = latents[:, k]
        groups = [z[sessions == s] for s in range(3)]
        between = sum(len(g) * (g.mean() - z.mean()) ** 2 for g in groups)
        assert found[k] == pytest.approx(between / ((z - z.mean()) ** 2).sum())
    assert found[2] == 0

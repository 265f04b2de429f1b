"""What is said of latents whose meaning is known."""

import numpy as np
import pytest

from psvae_tune.config.trial import parse_trial_config
from psvae_tune.results.figures.latent_words import describe_latents, session_shares
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


def rows_of(data, arrays):
    """Return the rows of the training clips."""
    return np.concatenate(
        [arrays[i][data.sessions[i].session.clip(clip)] for i, clip in data.clips("train")]
    )


def test_a_latent_is_told_by_what_it_moves_with(hidden_data):
    seen = rows_of(hidden_data, [item.labels for item in hidden_data.sessions])
    hidden = rows_of(hidden_data, [item.hidden.labels for item in hidden_data.sessions])
    index = rows_of(
        hidden_data, [np.full(len(s.labels), i) for i, s in enumerate(hidden_data.sessions)]
    )
    noise = np.random.default_rng(0).normal(size=(len(seen), 4))
    free = noise * [1, 0.01, 0.01, 0.01]
    free[:, 1] += -hidden[:, 0]
    free[:, 2] += 5 * seen[:, 1]
    free[:, 3] += index
    n_supervised = seen.shape[1]
    told = describe_latents(np.concatenate([seen, free], axis=1), n_supervised, hidden_data)
    assert told[: n_supervised + 1] == ("",) * (n_supervised + 1)
    assert told[n_supervised + 1].startswith(
        f"finds {hidden_data.sessions[0].hidden.names[0]}, r² "
    )
    assert told[n_supervised + 2].startswith(f"leaks {hidden_data.label_names[1]}, r² 1.00")
    assert told[n_supervised + 3] == "tells sessions apart, η² 1.00"


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

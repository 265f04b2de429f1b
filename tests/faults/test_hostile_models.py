"""Model files and checkpoints whose contents are not what they should be."""

import copy
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psvae_tune.files import write_bytes
from psvae_tune.search.trainable import run_trial
from psvae_tune.search.trial_spec import StageContext
from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.checkpoint import dump_state, load_state
from psvae_tune.training.fit import fit, start
from tests.support.damaged_files import write_model
from tests.support.hostile import N_INPUTS, attempt, damage, sample, share, text
from tests.support.hostile_values import places, values
from tests.support.readers import read_model
from tests.support.studies import make_config, make_session, make_stage

pytestmark = pytest.mark.timeout(0 if N_INPUTS else 300)

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model.pt"
    write_model(path)
    return torch.load(path, weights_only=True)


@st.composite
def changes(draw, raw):
    """Return a tree of which something is replaced, added or gone."""
    raw = copy.deepcopy(raw)
    path = draw(st.sampled_from(sorted(places(raw), key=repr)))
    node = raw
    for key in path[:-1]:
        node = node[key]
    new = values | st.sampled_from([10**9, 2**63, [[1.0]], [1.0], {"mean": 1}])
    kind = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    if kind == "remove":
        del node[path[-1]]
    elif kind == "add" and isinstance(node, dict):
        node[draw(text)] = draw(new)
    else:
        node[path[-1]] = draw(new)
    return raw


@sample(part=0.3)
@given(data=st.data())
def test_models_with_other_settings(tmp_path_factory, model, data):
    path = tmp_path_factory.getbasetemp() / "model.pt"
    description = data.draw(changes(json.loads(model["description"])))
    torch.save({**model, "description": json.dumps(description)}, path)
    attempt("model", lambda: read_model(path))


tensors = st.sampled_from(
    [
        torch.zeros(0),
        torch.zeros(3),
        torch.full((1,), torch.nan),
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(1).expand(10**9),
        torch.zeros(2).to_sparse(),
    ]
)


@sample(part=0.3)
@given(data=st.data())
def test_models_with_other_weights(tmp_path_factory, model, data):
    path = tmp_path_factory.getbasetemp() / "model.pt"
    state = dict(model["state"])
    state[data.draw(st.sampled_from(sorted(state)) | text)] = data.draw(tensors | values)
    torch.save({**model, "state": state}, path)
    attempt("model", lambda: read_model(path))


def begin():
    config, sessions = make_config(), [make_session(lengths=(4,) * 10)]
    data = prepare_data(sessions, config)
    return start(config, data, CPU), data, config


@pytest.fixture(scope="session")
def checkpoint():
    state, data, config = begin()
    reports = fit(state, data, config)
    for _ in range(2):
        next(reports)
    return dump_state(state)


def go_on(content):
    state, data, config = begin()
    load_state(state, content)
    next(fit(state, data, config), None)


def test_damaged_checkpoints(checkpoint):
    for seed in range(share(30)):
        damaged = damage(checkpoint, seed)
        refusal = attempt("checkpoint", lambda: go_on(damaged))  # noqa: B023
        assert (refusal is None) == (damaged == checkpoint)


def test_damaged_checkpoints_cost_only_time(tmp_path, checkpoint):
    config, sessions = make_config(), [make_session(lengths=(4,) * 10)]
    target = open_target(f"sqlite:///{tmp_path / 'mlflow.db'}", "experiment", "study", tmp_path)
    folder = OutputFolder(tmp_path).study("study")
    digests = tuple(session.digest for session in sessions)
    context = StageContext(make_stage(), config, folder, target, digests, 2, "none")
    spec = context.spec({})
    write_bytes(folder.checkpoint(spec.trial_id), checkpoint[:-1])
    epochs = [report.epoch for report in run_trial(spec, sessions, context, CPU)]
    assert epochs == [1, 2, 3, 4, 4]

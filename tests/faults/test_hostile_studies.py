"""Search-space files, settings of the command line and architectures that ask for trouble."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from hostile import N_INPUTS, attempt, damage, sample, text
from hypothesis import given
from hypothesis import strategies as st

from psvae_tune.cli.check import describe_plan
from psvae_tune.config import parse_trial_config
from psvae_tune.errors import ConfigError
from psvae_tune.models.registry import build_model
from psvae_tune.models.types import DataShape
from psvae_tune.plan import make_plan
from psvae_tune.study_file import read_study_file

pytestmark = pytest.mark.timeout(0 if N_INPUTS else 300)

FILES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
N_EACH = N_INPUTS or 100

numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 1, 10**9, 10**30, 1e-320])
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


def places(node, path=()):
    """Yield the path of everything in a tree of dicts and lists."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


@st.composite
def studies(draw):
    """Return the contents of a shipped file with a few things replaced, added or gone."""
    raw = yaml.safe_load(draw(st.sampled_from(FILES)).read_text())
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(places(raw), key=repr)))
        node = raw
        for key in path[:-1]:
            node = node[key]
        kind = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if kind == "replace":
            node[path[-1]] = draw(values)
        elif kind == "remove":
            del node[path[-1]]
        elif isinstance(node, dict):
            node[draw(text)] = draw(values)
        if not raw:
            break
    return raw


small = st.integers(1, 9)
sizes = small | small | st.sampled_from([0, -1, 1.5, "x", None, 10**6, 2**63])


@st.composite
def architectures(draw):
    """Return an architecture in the published keys, most of whose lists go together."""
    n_layers = draw(st.integers(1, 4))

    def row(items):
        whole = st.lists(items, min_size=n_layers, max_size=n_layers)
        return draw(st.one_of(*[whole] * 9, values))

    raw = {
        "ae_padding_type": draw(st.sampled_from(["same", "valid"])),
        "ae_batch_norm": draw(st.booleans()),
        "symmetric_arch": draw(st.booleans()),
        "ae_decoding_last_FF_layer": draw(st.booleans()),
    }
    for side in ("encoding", "decoding"):
        if side == "encoding" or not raw["symmetric_arch"]:
            for name in ("n_channels", "kernel_size", "stride_size"):
                raw[f"ae_{side}_{name}"] = row(draw(st.sampled_from([small, small, small, sizes])))
    if draw(st.booleans()):
        raw["ae_encoding_layer_type"] = row(st.sampled_from(["conv", "maxpool"]))
    if not raw["symmetric_arch"] and draw(st.booleans()):
        raw["ae_decoding_starting_dim"] = draw(st.lists(sizes, min_size=3, max_size=3))
    if not raw["symmetric_arch"] and draw(st.booleans()):
        raw["ae_decoding_n_channels"] = [1] * n_layers
    return raw


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recordings") / "session.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["label_names"] = np.bytes_('["x", "y"]')
        for i in range(12):
            file[f"images/trial_{i:04}"] = rng.integers(0, 256, (4, 1, 32, 32), np.uint8)
            file[f"labels/trial_{i:04}"] = rng.random((4, 2))
            file[f"labels_sc/trial_{i:04}"] = rng.random((4, 2))
    return path


def plan(file, recording, settings=()):
    """Do what ``psvae-tune check`` does."""
    sessions = [] if recording is None else [str(recording)]
    list(describe_plan(make_plan(read_study_file(file, settings, sessions), str(file))))


@sample
@given(raw=studies())
def test_changed_studies(tmp_path_factory, recording, raw):
    file = tmp_path_factory.getbasetemp() / "study.yaml"
    try:
        file.write_text(yaml.safe_dump(raw))
    except UnicodeEncodeError:
        return
    attempt("search space", lambda: plan(file, recording))


def test_damaged_studies(tmp_path, recording):
    file = tmp_path / "study.yaml"
    for seed in range(N_EACH):
        file.write_bytes(damage(FILES[seed % len(FILES)].read_bytes(), seed))
        attempt("search space", lambda: plan(file, recording))


keys = st.sampled_from(
    [
        "data.sessions",
        "data.trial_splits",
        "model.ps_vae.beta",
        "model.n_ae_latents",
        "model.ae_arch_json",
        "search.stages.alpha.space.ps_vae.alpha",
        "search.stages.alpha.select",
        "search.stages.alpha",
        "search",
        "training.max_n_epochs",
        "resources",
        "experiment_name",
        "",
        ".",
        "a..b",
    ]
) | st.text(max_size=20)


@sample
@given(key=keys, value=text | st.integers(0, 99).map(str) | values.map(json.dumps))
def test_settings(recording, key, value):
    settings = [f"{key}={value}"]
    attempt("--set", lambda: plan(FILES[-3], recording, settings))


def build(raw):
    model = {"model_class": "ae", "n_ae_latents": 3, "ae_arch_json": raw}
    config = parse_trial_config({"model": model}, "study.yaml").model
    frames = torch.zeros(2, 1, 32, 40)
    build_model(config, DataShape(1, 32, 40)).predict(frames, None, None, None)


@sample
@given(raw=architectures())
def test_architectures(raw):
    attempt("architecture", lambda: build(raw))


def test_architecture_files(tmp_path, recording):
    file, architecture = tmp_path / "study.yaml", tmp_path / "architecture.json"
    raw = yaml.safe_load(FILES[0].read_text())
    raw["model"]["ae_arch_json"] = architecture.name
    file.write_text(yaml.safe_dump(raw))
    content = json.dumps(
        {
            "ae_encoding_n_channels": [8, 16],
            "ae_encoding_kernel_size": [5, 5],
            "ae_encoding_stride_size": [2, 2],
        }
    ).encode()
    for seed in range(N_EACH):
        architecture.write_bytes(damage(content, seed))
        attempt("architecture", lambda: plan(file, recording))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a: " + "9" * 5000, "is not YAML"),
        ("a: 2020-13-45", "is not YAML"),
        ("a: !!python/object/apply:os.system [id]", "is not YAML"),
        ("[" * 5000, "nested too deeply"),
        ("a: &a [*a]", "is nested too deeply"),
        (
            "a0: &a0 [x, x]\n"
            + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)),
            "must hold at most 100000 values",
        ),
        ("# " + "x" * 2**21, "must be shorter than 1 MB"),
        ("a: \ud800", "is not text"),
    ],
)
def test_files_that_are_more_than_they_seem(tmp_path, content, problem):
    file = tmp_path / "study.yaml"
    file.write_text(content, errors="surrogatepass")
    with pytest.raises(ConfigError, match=problem):
        read_study_file(file)

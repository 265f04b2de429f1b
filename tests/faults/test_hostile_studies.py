"""Search-space files, settings of the command line and architectures that ask for trouble."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from psvae_tune.cli.check import describe_plan
from psvae_tune.config.study_file import parse_set_options, read_study_file
from psvae_tune.config.trial import parse_trial_config
from psvae_tune.errors import ConfigError
from psvae_tune.models.batch import DataShape
from psvae_tune.models.registry import build_model
from psvae_tune.study.plan import make_plan
from tests.support.hostile import N_INPUTS, attempt, damage, sample, share, text
from tests.support.hostile_values import places, values

pytestmark = pytest.mark.timeout(0 if N_INPUTS else 300)

FILES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))


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


small = st.integers(1, 4)
sizes = small | small | st.integers(5, 99) | st.sampled_from([0, -1, 1.5, "x", None, 10**6, 2**63])


@st.composite
def architectures(draw):
    """Return an architecture in the published keys, most of whose lists go together."""
    n_layers = draw(st.integers(1, 4))

    def row(items):
        whole = st.lists(items, min_size=n_layers, max_size=n_layers)
        return draw(st.one_of(*[whole] * 9, values))

    raw = {
        "ae_padding_type": draw(st.sampled_from(["same", "same", "valid"])),
        "ae_batch_norm": draw(st.booleans()),
        "symmetric_arch": draw(st.sampled_from([True, True, False])),
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


def plan(file, recording, settings=()):
    """Do what ``psvae-tune check`` does."""
    sessions = [] if recording is None else [str(recording)]
    list(
        describe_plan(
            make_plan(read_study_file(file, parse_set_options(settings), sessions), str(file))
        )
    )


@sample(part=0.5)
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
    for seed in range(share(100, part=0.5)):
        file.write_bytes(damage(FILES[seed % len(FILES)].read_bytes(), seed))
        attempt("search space", lambda: plan(file, recording))


keys = st.sampled_from(
    [
        "data.sessions",
        "model.ae_arch_json",
        "search.stages.alpha.space.ps_vae.alpha",
        "search.stages.alpha",
        "search.stages.0",
        "tracking.uri",
        "resources",
        "",
        ".",
        "a..b",
        ".".join("a" * 3000),
    ]
) | st.text(max_size=20)
yaml_texts = st.sampled_from(
    [
        "",
        "~",
        "yes",
        "*a",
        "&a [*a]",
        "<<: *a",
        "{a: b",
        "[1, 2",
        "- a",
        "? a",
        "a: b: c",
        "%YAML 9",
        "!!binary x",
        "!!python/object/apply:os.system [id]",
        "2020-13-45",
        "12:30:45",
        "0x1f",
        ".inf",
        "9" * 5000,
        "[" * 2000,
        "{" * 200 + "}" * 200,
        "[{name: []}]",
        "[{name: {a: 1}}]",
        "{grid_search: []}",
        "{grid_search: [1, 2, 4]}",
        "{grid_search: [[1]]}",
        "{choice: [null]}",
        "{uniform: [1, 0]}",
        "{loguniform: [0, 1]}",
        "{loguniform: [1, 1000]}",
        "{randint: [0, 10000000000]}",
        "{quniform: [0, 1, 0]}",
        "n_labels + 2",
        "n_labels + " + "9" * 30,
        "http://user:secret@host:5000",
    ]
)


def dotted(raw):
    """Return every place of a file as ``--set`` names it: stages go by their names."""
    names = []
    for path in places(raw):
        node, parts = raw, []
        for key in path:
            is_stage = isinstance(node, list) and isinstance(node[key], dict)
            parts.append(str(node[key].get("name")) if is_stage else str(key))
            node = node[key]
        names.append(".".join(parts))
    return sorted(names)


@st.composite
def changed_files(draw):
    """Return a shipped file, and what a command line changes in it."""
    file = draw(st.sampled_from(FILES))
    known = st.sampled_from(dotted(yaml.safe_load(file.read_text())))
    ends = st.sampled_from(["", "", "", "", ".x", ".", ".name", ".grid_search"])
    some = yaml_texts | text | st.integers(0, 99).map(str) | values.map(json.dumps)
    n_changes = draw(st.integers(1, 3))
    changes = [f"{draw(known | known | keys)}{draw(ends)}={draw(some)}" for _ in range(n_changes)]
    return file, changes


@sample()
@given(changed=changed_files())
def test_settings(recording, changed):
    attempt("--set", lambda: plan(changed[0], recording, changed[1]))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ([".".join("a" * 3000) + "=1"], "names a place below 2999 others"),
        (["search.stages=[{name: [1]}]", "search.stages.x.y=1"], "names no stage, got 'x'"),
    ],
)
def test_settings_that_name_no_place(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        read_study_file(FILES[0], parse_set_options(settings))


def build(raw):
    model = {"model_class": "ae", "n_ae_latents": 3, "ae_arch_json": raw}
    config = parse_trial_config({"model": model}, "study.yaml").model
    frames = torch.zeros(2, 1, 32, 40)
    build_model(config, DataShape(1, 32, 40)).predict(frames, None, None, None)


@sample(part=0.5)
@given(raw=architectures())
def test_architectures(raw):
    attempt("architecture", lambda: build(raw))


def test_architecture_files(tmp_path, recording):
    file, architecture = tmp_path / "study.yaml", tmp_path / "architecture.json"
    raw = yaml.safe_load(FILES[0].read_text())
    raw["model"]["ae_arch_json"] = architecture.name
    file.write_text(yaml.safe_dump(raw))
    content = (
        b'{"ae_encoding_n_channels": [8, 16], "ae_encoding_kernel_size": [5, 5],'
        b' "ae_encoding_stride_size": [2, 2], "ae_padding_type": "same"}'
    )
    for odd in (
        b"",
        b"[]",
        b"NaN",
        b"\xef\xbb\xbf" + content,
        content + content,
        content[:-1] + content.replace(b"{", b","),
        content.replace(b"8", b"9" * 5000),
        content.replace(b"8", b"Infinity"),
        content.replace(b"8", b"[" * 100_000),
        content.replace(b"8", b"[" * 500 + b"]" * 500),
        b" " * 2**21 + content,
    ):
        architecture.write_bytes(odd)
        attempt("architecture", lambda: plan(file, recording))
    for seed in range(share(100, part=0.5)):
        architecture.write_bytes(damage(content, seed))
        attempt("architecture", lambda: plan(file, recording))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a: " + "9" * 5000, "is not YAML"),
        ("a: !!timestamp 2020-13-45", "is not YAML"),
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

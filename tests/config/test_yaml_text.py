import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from psvae_tune.config.study_file import parse_set_options, read_study_file
from psvae_tune.config.yaml_text import dump_yaml, parse_yaml
from psvae_tune.errors import ConfigError
from tests.support.study_texts import FILE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("-5e2", -500.0),
        ("+1e+3", 1000.0),
        ("1.0e3", 1000.0),
        ("1.e-2", 0.01),
        (".5", 0.5),
        (".5e1", 5.0),
        ("1_000", 1000),
        ("1_0.2_5", 10.25),
        ("010", 10),
        ("-07", -7),
        ("0", 0),
        ("0.0010", 0.001),
        ("-.inf", -math.inf),
    ],
)
def test_numbers_as_people_write_them(text, value):
    read = parse_yaml(text, "test")
    assert read == value
    assert type(read) is type(value)
    assert parse_set_options([f"a.b={text}"]) == {"a.b": value}
    assert parse_yaml(f"[{text}, {{x: {text}}}]", "test") == [value, {"x": value}]


@pytest.mark.parametrize(
    "text",
    ["1e", "e4", "1e-", "1:30", "1:30:00", "2026-11-25", "0x10", "1__0", "_1", "1_", ".", "+",
     "1.2.3", "1e4e5", "8;1;1;0", "demo:1", "1-2"],
)  # fmt: skip
def test_what_is_no_decimal_number_is_a_text(text):
    assert parse_yaml(text, "test") == text


def test_what_is_in_quotes_is_a_text():
    assert parse_yaml("['1e-4', \"10\"]", "test") == ["1e-4", "10"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
        # Texts of the characters of numbers, most of which are numbers or nearly so.
        | st.text("0123456789+-._eE:xob", max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    st.booleans(),
)  # fmt: skip
def test_what_is_written_is_read_as_the_same(raw, flow):
    text = dump_yaml(raw, flow=flow)
    assert repr(parse_yaml(text, "test")) == repr(raw)
    assert not flow or text.count("\n") <= 2


@pytest.mark.parametrize("text", ["\x85", "a\u2028b", "\u2029", "\ufeff", "a\nb", "\r\n"])
def test_every_line_break_is_kept(text):
    assert parse_yaml(dump_yaml({text: [text]}), "test") == {text: [text]}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_of_python_are_numbers(value):
    for text in (repr(value), f"{value:e}", f"{value:.17g}", f"{value:E}"):
        assert parse_yaml(text, "test") == float(text)


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("model: {a: 1}\ntraining: {}\nmodel: {a: 2}", "model", 3),
        ("model:\n  a: 1\n  b: 2\n  a: 3", "a", 4),
        ("model: {a: 1, 'a': 1}", "a", 1),
        ("stages:\n- name: one\n  name: two", "name", 3),
        ("- - - {x: 1, y: {a: 1,\n a: 2}}", "a", 2),
        ("x: &x {a: 1}\ny: {<<: *x, b: 1,\n  b: 2}", "b", 3),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text, key, line):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"study\.yaml.*line {line}: `{key}` stands twice"):
        read_study_file(tmp_path / "study.yaml")


def test_what_is_merged_may_be_changed():
    text = "base: &base {a: 1, b: 2}\nmid: &mid {<<: *base, a: 3}\nlast: {<<: *mid, a: 4, b: 5}"
    merged = {"base": {"a": 1, "b": 2}, "mid": {"a": 3, "b": 2}, "last": {"a": 4, "b": 5}}
    assert parse_yaml(text, "test") == merged


def test_the_file_that_is_kept_says_the_same(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(FILE))
    settings = parse_set_options(["training.learning_rate=1e-4", "tracking.uri='1e5'"])
    raw = read_study_file(tmp_path / "study.yaml", settings)
    assert raw["training"]["learning_rate"] == 1e-4
    assert parse_yaml(dump_yaml(raw), "kept") == raw

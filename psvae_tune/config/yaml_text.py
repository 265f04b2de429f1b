"""YAML texts are read with numbers as people write them, and data are written as such texts."""

import math
import re
from typing import Any

import yaml

from psvae_tune.errors import ConfigError

MAX_BYTES = 2**20
"""Largest size of a text."""
MAX_VALUES = 100_000
"""Largest number of values in a text, counted as often as they are referred to."""
MAX_DEPTH = 100
"""Largest number of sections inside each other."""

_INT, _FLOAT, _TIME = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp"))

# By YAML 1.1, which PyYAML follows, 1e-4 and 1.0e3 are texts, 010 is 8, 1:30 is 90, and a day is
# no text. These are the decimal numbers of YAML 1.2, with the `_` that Python takes, too.
_NUMBERS = (
    (_INT, re.compile(r"[-+]?\d+(_\d+)*\Z", re.ASCII)),
    (
        _FLOAT,
        re.compile(
            r"[-+]?(\d+(_\d+)*(\.(\d+(_\d+)*)?)?|\.\d+(_\d+)*)([eE][-+]?\d+)?\Z"
            r"|[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z",
            re.ASCII,
        ),
    ),
)


class _Loader(yaml.SafeLoader):
    """Reads plain data, and refuses a key that stands twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        start: [item for item in resolvers if item[0] not in (_INT, _FLOAT, _TIME)]
        for start, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the node of a mapping as it stands, before others are merged into it."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # such a key is refused for itself
            if (key.tag, key.value) in seen:
                problem = f"`{key.value:.60}` stands twice"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            seen.add((key.tag, key.value))
        return node

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """Return a decimal integer, which may begin with zeros."""
        return int(self.construct_scalar(node))


class _Dumper(yaml.SafeDumper):
    """Writes plain data, with quotes around texts that are numbers by either version of YAML."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Other styles fold the line breaks of Unicode into spaces.
    style = '"' if re.search("[\x85\u2028\u2029]", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
for _tag, _pattern in _NUMBERS:
    _Loader.add_implicit_resolver(_tag, _pattern, [*"-+.0123456789"])
    _Dumper.add_implicit_resolver(_tag, _pattern, [*"-+.0123456789"])
_Loader.add_constructor(_INT, _Loader.construct_int)


def parse_yaml(text: str, where: str) -> Any:
    """Return the contents of a YAML text.

    Decimal numbers are those of YAML 1.2: ``1e-4`` is one, and so are ``010`` and ``1_000``. Days
    and times are texts.

    Parameters
    ----------
    text
        Text of any origin; it may be hostile.
    where
        Name of the text in an error.

    Raises
    ------
    ConfigError
        If the text is not YAML, holds a key twice, or is larger, nested more deeply or of more
        values than allowed.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(where, f"must be shorter than {MAX_BYTES // 2**20} MB")
    try:
        raw = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        what = getattr(error, "problem", None) or "not readable"
        raise ConfigError(where, f"is not YAML: {place}{what}") from error
    except (ValueError, OverflowError) as error:  # a number or a date that cannot be
        raise ConfigError(where, f"is not YAML: {str(error).partition(';')[0]}") from error
    except RecursionError as error:
        raise ConfigError(where, "is not YAML: nested too deeply") from error
    check_size(raw, where)
    return raw


def dump_yaml(raw: Any, *, flow: bool = False) -> str:
    """Return plain data as a text that `parse_yaml` reads as the same data.

    Parameters
    ----------
    raw
        Numbers, texts, lists and mappings.
    flow
        Whether all of it stands on one line, in brackets.
    """
    width = math.inf if flow else None
    return yaml.dump(
        raw,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=not flow,
        default_flow_style=flow,
        width=width,
    )


def check_size(raw: Any, where: str) -> None:
    """Refuse short texts that stand for very many values by references to each other.

    Raises
    ------
    ConfigError
        If ``raw`` is nested more deeply, or of more values, than allowed.
    """
    left, n_values = [(raw, 0)], 0
    while left:
        node, depth = left.pop()
        n_values += 1
        if n_values > MAX_VALUES:
            raise ConfigError(where, f"must hold at most {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            raise ConfigError(where, "is nested too deeply")
        if isinstance(node, dict):
            left += [(item, depth + 1) for pair in node.items() for item in pair]
        elif isinstance(node, list):
            left += [(item, depth + 1) for item in node]

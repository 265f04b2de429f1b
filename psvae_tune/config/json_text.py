"""JSON texts that people write are read like their YAML texts: a key may not stand twice."""

import json
from collections.abc import Sequence
from typing import Any


def parse_json(text: str) -> Any:
    """Return the contents of a JSON text.

    Raises
    ------
    ValueError
        If the text is not JSON, as `json.JSONDecodeError`, or holds a key twice.
    RecursionError
        If it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_to_dict)


def _to_dict(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"`{key:.60}` stands twice")
        found[key] = value
    return found

"""Read the names of the labels from a session file, and check them."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from psvae_tune.data.untrusted_hdf5 import HDF5_ERRORS, rehearse_texts

MAX_LABELS = 10_000
MAX_NAME_LENGTH = 100
"""Longest name of a label; MLflow allows 250 characters for a metric, whose name contains it."""


def read_label_names(
    file: h5py.File, path: str, n_labels: int, problems: list[str]
) -> tuple[str, ...]:
    """Return the names of the labels: those in the file, or numbers where it holds none.

    Parameters
    ----------
    file, path
        An open session file, and its path or URL.
    n_labels
        Number of labels that its arrays hold.
    problems
        Is extended by everything that is wrong with the names.
    """
    if n_labels > MAX_LABELS:
        problems.append(f"must have at most {MAX_LABELS} labels, got {n_labels}")
        return ()
    stored: Any = None
    try:
        rehearse_texts(file, path, everywhere=False)
        stored = file.attrs.get("label_names")
        if stored is None:
            return tuple(f"label_{index}" for index in range(n_labels))
        if isinstance(stored, np.ndarray) and stored.ndim == 1 and stored.dtype.kind in "SO":
            names = [item.decode() if isinstance(item, bytes) else item for item in stored]
        else:
            names = json.loads(stored)
    except (*HDF5_ERRORS, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        text = stored.decode(errors="replace") if isinstance(stored, bytes) else stored
        problems.append(f"attribute `label_names` must be a JSON list of names, got {text!r:.80}")
        return ()
    problems += [f"attribute `label_names` {what}" for what in _name_problems(names, n_labels)]
    return tuple(names)


def _name_problems(names: list[str], n_labels: int) -> Iterator[str]:
    for name in names:
        if len(name) > MAX_NAME_LENGTH or not name.isprintable():
            yield (
                f"must hold names of up to {MAX_NAME_LENGTH} letters, digits and signs, "
                f"got {name!r:.80}"
            )
    if len(names) != n_labels:
        yield f"must name {n_labels} labels, got {len(names)}"
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        yield f"must not repeat a name, got {repeated}"

"""The movements of the demo recording that no tracker follows."""

import json
from pathlib import Path

import h5py
import numpy as np


def read_truth(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the untracked parts, and their movements of shape (frame, part).

    The jaw is in pixels, the whisker in degrees.
    """
    with h5py.File(path) as file:
        truth = file["truth"]
        clips = [truth[name][()] for name in sorted(truth)]
        return tuple(json.loads(truth.attrs["truth_names"])), np.concatenate(clips)

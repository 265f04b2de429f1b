"""A second camera of a generated recording."""

from pathlib import Path

import h5py
import numpy as np


def add_mirror_camera(path: Path) -> None:
    """Give a recording a second channel, the mirror image of its first. Rewrites the file."""
    with h5py.File(path, "r+") as file:
        for name in list(file["images"]):
            frames = file["images"][name][()]
            del file["images"][name]
            file["images"][name] = np.concatenate([frames, frames[..., ::-1]], axis=1)

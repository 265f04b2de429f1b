import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

LABEL_NAMES = ["paw_x", "paw_y"]
CLIP_LENGTHS = [5, 4, 6]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings."""
    root = Path(__file__).parents[2]
    folder = Path(os.environ.get("PSVAE_TUNE_SHARED", root.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}; set PSVAE_TUNE_SHARED")
    return folder


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """Write three small clips with every group of the layout, then let a test edit the file."""

    def make(edit: Callable[[h5py.File], object] = lambda file: None, **storage: object) -> Path:
        path = tmp_path / f"session_{len(list(tmp_path.iterdir()))}.h5"
        rng = np.random.default_rng(0)
        with h5py.File(path, "w") as file:
            # Of a fixed length: reading that is not rehearsed, which saves time.
            file.attrs["label_names"] = np.bytes_('["paw_x", "paw_y"]')
            for index, length in enumerate(CLIP_LENGTHS):
                frames = rng.integers(256, size=(length, 1, 4, 6)).astype(np.uint8)
                labels = rng.uniform(0, 6, (length, 2)).astype(np.float32)
                masks = np.ones_like(labels)
                masks[1, 0] = 0
                frame_masks = (rng.random(frames.shape) < 0.9).astype(np.float32)
                for group, array in (
                    ("images", frames),
                    ("labels", labels),
                    ("labels_masks", masks),
                    ("labels_sc", labels),
                    ("masks", frame_masks),
                ):
                    file.create_dataset(f"{group}/trial_{index:04d}", data=array, **storage)
            edit(file)
        return path

    return make

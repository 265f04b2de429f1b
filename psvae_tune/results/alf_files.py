"""Write latents and labels as NumPy files, named as the International Brain Laboratory does (ALF).

Files of one object have one row a frame: ``_psvae_latents.values.npy``, ``.times.npy`` in seconds,
``.frames.npy`` and ``.clips.npy``, and ``_psvae_labels.values.npy``, ``.times.npy``,
``.masks.npy``. Names of columns, units and the model are in ``.metadata.json``.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psvae_tune.files import write_bytes
from psvae_tune.results.predictions import Predictions

LATENTS, LABELS = "_psvae_latents", "_psvae_labels"


def write_alf(predictions: Predictions, folder: Path) -> None:
    """Write predictions into a folder; files of earlier ones there are replaced or removed.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    contents = dict(_make_files(predictions))
    for name, content in contents.items():
        write_bytes(folder / name, content)
    for stem in (LATENTS, LABELS):
        for path in folder.glob(f"{stem}.*"):
            if path.name not in contents:
                path.unlink()


def _make_files(predictions: Predictions) -> Iterator[tuple[str, bytes]]:
    rows, units = predictions.rows, predictions.units()
    for stem, names, arrays in (
        (LATENTS, predictions.latent_names, {"values": predictions.latents}),
        (
            LABELS,
            predictions.label_names,
            {"values": predictions.labels_hat, "masks": predictions.label_masks},
        ),
    ):
        if arrays["values"] is None:
            continue
        origins = {"times": rows.time_s, "frames": rows.frame_index, "clips": rows.clip_of_frames}
        for attribute, array in {**arrays, **origins}.items():
            if array is not None:
                yield f"{stem}.{attribute}.npy", _to_npy(array)
        about = {
            "session": rows.session,
            "columns": names,
            "units": {"times": units["time_s"], "frames": units["frame_index"]},
            "model": predictions.model,
        }
        yield f"{stem}.metadata.json", json.dumps(about, indent=2).encode()


def _to_npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()

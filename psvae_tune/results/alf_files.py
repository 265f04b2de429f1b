"""Write latents and labels as NumPy files, named as the International Brain Laboratory does (ALF).

Files of one object have one row a frame: ``_psvae_latents.values.npy``, ``.times.npy`` in seconds,
``.frames.npy`` and ``.clips.npy``, and ``_psvae_labels.values.npy``, ``.times.npy``,
``.masks.npy``, whose frames and clips are those of the latents. Names of columns, units and the
model are in ``.metadata.json``.
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
    """Write predictions into a folder, in which those of earlier ones are removed before.

    The files ``values`` are the first to go and the last to come, so that a folder that an
    interruption left incomplete has none, and never those of another recording.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    contents = dict(_make_files(predictions))
    earlier = [path.name for stem in (LATENTS, LABELS) for path in folder.glob(f"{stem}.*")]
    for name in sorted(earlier, key=_holds_values, reverse=True):
        (folder / name).unlink()
    for name in sorted(contents, key=_holds_values):
        write_bytes(folder / name, contents[name])


def _holds_values(name: str) -> bool:
    return name.endswith(".values.npy")


def _make_files(predictions: Predictions) -> Iterator[tuple[str, bytes]]:
    rows, units = predictions.rows, predictions.units()
    frames = {"frames": rows.frame_index, "clips": rows.clip_of_frames}
    for stem, names, arrays in (
        (LATENTS, predictions.latent_names, {"values": predictions.latents, **frames}),
        (
            LABELS,
            predictions.label_names,
            {"values": predictions.labels_hat, "masks": predictions.label_masks},
        ),
    ):
        if arrays["values"] is None:
            continue
        for attribute, array in {**arrays, "times": rows.time_s}.items():
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

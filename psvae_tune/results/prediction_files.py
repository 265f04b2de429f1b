"""Files of latents and predicted labels: CSV, HDF5 and Parquet, a row a frame.

The HDF5 file has the layout of the recordings: groups ``frame_index``, ``time_s`` where times are
known, ``latents`` and, where the model predicts labels, ``labels_hat`` and ``labels_masks``, one
dataset a clip. The names of the columns and the units are attributes of the groups, and the name
of the session is one of the file. The units of a Parquet file, and the settings of its model, are
in the metadata of its schema, as JSON: ``units`` and ``model``.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.frame_rows import SECONDS, FrameRows
from psvae_tune.data.session_header import clip_number
from psvae_tune.data.untrusted_hdf5 import HDF5_ERRORS
from psvae_tune.errors import StorageError
from psvae_tune.files import write_bytes
from psvae_tune.results.alf_files import write_alf
from psvae_tune.results.nwb_file import write_nwb
from psvae_tune.results.predictions import Predictions


def to_hdf5(predictions: Predictions) -> bytes:
    """Return predictions as the bytes of an HDF5 file."""
    rows, buffer = predictions.rows, io.BytesIO()
    latents, labels = predictions.latent_names, predictions.label_names
    with h5py.File(buffer, "w") as file:
        file.attrs["session"] = rows.session
        file.attrs["model"] = json.dumps(predictions.model)
        for name, values, attributes in (
            ("frame_index", rows.frame_index, {"unit": rows.index_unit}),
            ("time_s", rows.time_s, {"unit": SECONDS}),
            ("latents", predictions.latents, _names(latents)),
            ("labels_hat", predictions.labels_hat, _names(labels)),
            ("labels_masks", predictions.label_masks, _names(labels)),
        ):
            if values is not None:
                _write_group(file, name, values, attributes, rows)
    return buffer.getvalue()


def _names(columns: Sequence[str]) -> dict[str, str]:
    return {"names": json.dumps(list(columns))}


def _write_group(
    file: h5py.File,
    name: str,
    values: NDArray[Any],
    attributes: Mapping[str, str],
    rows: FrameRows,
) -> None:
    group = file.create_group(name)
    group.attrs.update(attributes)
    for clip_name, of_clip in rows.clips():
        group.create_dataset(clip_name, data=values[of_clip])


def from_hdf5(content: bytes, where: str) -> Predictions:
    """Return the predictions that `to_hdf5` wrote.

    Parameters
    ----------
    content
        Bytes of the file.
    where
        Name of the file, for messages.

    Raises
    ------
    StorageError
        If it is another file, or one without ``frame_index``.
    """
    try:
        with h5py.File(io.BytesIO(content)) as file:
            clip_names = tuple(sorted(file["frame_index"], key=clip_number))
            lengths = tuple(len(file["frame_index"][name]) for name in clip_names)
            arrays = {
                group: np.concatenate([file[group][name][()] for name in clip_names])
                for group in file
            }
            rows = FrameRows(
                str(file.attrs["session"]),
                clip_names,
                lengths,
                arrays["frame_index"],
                arrays.get("time_s"),
                str(file["frame_index"].attrs["unit"]),
            )
            has_labels = "labels_hat" in file
            return Predictions(
                rows=rows,
                latent_names=tuple(json.loads(file["latents"].attrs["names"])),
                label_names=tuple(json.loads(file["labels_hat"].attrs["names"]))
                if has_labels
                else (),
                latents=arrays["latents"],
                labels_hat=arrays.get("labels_hat"),
                label_masks=arrays.get("labels_masks"),
                model=json.loads(file.attrs["model"]),
            )
    except HDF5_ERRORS as error:
        hint = "make it anew from its model with `psvae-tune predict`"
        problem = f"holds no latents of known frames, got {error}"
        raise StorageError(where, problem, hint) from error


def to_csv(predictions: Predictions) -> bytes:
    """Return predictions as CSV, one row a frame: session, clip, index, time, latents, labels."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    columns = predictions.to_columns()
    writer.writerow(columns)
    writer.writerows(zip(*(_to_cells(*item) for item in columns.items()), strict=True))
    return text.getvalue().encode()


def to_parquet(predictions: Predictions) -> bytes:
    """Return predictions as the bytes of a Parquet file; a time that is not known is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: pa.array(values) for name, values in predictions.to_columns().items()}
    if predictions.rows.time_s is None:
        columns["time_s"] = pa.nulls(len(predictions.latents), pa.float64())
    about = {"units": predictions.units(), "model": predictions.model}
    metadata = {key: json.dumps(value) for key, value in about.items()}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer)
    return buffer.getvalue()


def _to_cells(name: str, values: NDArray[Any]) -> list[str]:
    if name == "time_s":  # every digit, because times are matched with those of other files
        return ["" if np.isnan(value) else repr(value) for value in values.tolist()]
    if values.dtype.kind == "f":
        return [f"{value:.6g}" for value in values]
    return [str(int(value)) if values.dtype.kind == "b" else str(value) for value in values]


FORMATS: dict[str, Callable[[Predictions], bytes]] = {
    ".h5": to_hdf5,
    ".csv": to_csv,
    ".parquet": to_parquet,
}
"""The function that makes the contents of a file, by its suffix."""
NWB, ALF = ".nwb", ".alf"


def write_predictions(
    predictions: Predictions, path: Path | str, *, replaces: bool = False
) -> None:
    """Write predictions to a file or a folder, in the format that its suffix names.

    Parameters
    ----------
    predictions
        From `FittedModel.predict` or `StudyResult.predictions`.
    path
        The file: ``.csv``, ``.h5`` or ``.parquet``, which is replaced if it exists; ``.alf``, a
        folder, see `psvae_tune.results.alf_files`; or ``.nwb``, to which the predictions are
        added, see `psvae_tune.results.nwb_file`.
    replaces
        Whether predictions that an NWB file holds already are replaced.

    Raises
    ------
    StorageError
        If the suffix is another, or the file cannot be written or holds predictions already.
    DataError
        If an NWB file needs times and they are not known.

    Examples
    --------
    >>> import psvae_tune as pt
    >>> model = pt.load_model("models:/mouse@champion")  # doctest: +SKIP
    >>> pt.write_predictions(model.predict("mouse.mp4"), "mouse.parquet")  # doctest: +SKIP
    """
    path = Path(path)
    if path.suffix == NWB:
        write_nwb(predictions, path, replaces=replaces)
        return
    if path.suffix not in (*FORMATS, ALF):
        known = ", ".join([*FORMATS, ALF, NWB])
        raise StorageError(str(path), f"must end in one of {known}, got {path.suffix!r}")
    try:
        if path.suffix == ALF:
            write_alf(predictions, path)
        else:
            write_bytes(path, FORMATS[path.suffix](predictions))
    except OSError as error:
        raise StorageError(str(path), f"cannot be written: {error.strerror}") from error

"""Write latents for models of sequences: a NumPy archive with an array a clip."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from psvae_tune.errors import StorageError
from psvae_tune.files import require_absent, write_bytes
from psvae_tune.results.predictions import Predictions

COLUMNS = "columns"
"""Name of the array of the latents' names. Those of clips are ``SESSION/CLIP``."""


def write_sequences(predictions: Sequence[Predictions], path: Path | str) -> None:
    """Write the latents of sessions to a NumPy archive, which is replaced if it exists.

    Each clip is an array (frame, latent) of float32 that is called ``SESSION/CLIP``, in the order
    of the recordings. The array ``columns`` names the latents.

    Parameters
    ----------
    predictions
        One or more sessions of one model, as `StudyResult.predictions` returns them.
    path
        The file, ``.npz``.

    Raises
    ------
    StorageError
        If the suffix is another, there are no sessions, two have one name or other latents, or
        the file cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> import psvae_tune as pt
    >>> result = pt.open_study("psvae_tune_studies/mouse")  # doctest: +SKIP
    >>> pt.write_sequences(result.predictions(), "latents.npz")  # doctest: +SKIP
    >>> with np.load("latents.npz") as file:  # doctest: +SKIP
    ...     clips = [file[name] for name in file if name != "columns"]
    """
    path = Path(path)
    _check_suffix(path)
    names = [item.rows.session for item in predictions]
    if len(set(names)) < max(len(names), 1):
        raise StorageError(str(path), f"needs sessions of different names, got {names}")
    if len({item.latent_names for item in predictions}) > 1:
        raise StorageError(str(path), "needs sessions of one model, got other names of latents")
    arrays: dict[str, Any] = {COLUMNS: np.array(predictions[0].latent_names)}
    for item in predictions:
        arrays |= {f"{item.rows.session}/{clip}": x for clip, x in item.to_clips().items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    try:
        write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise StorageError(str(path), f"cannot be written: {error.strerror}") from error


def check_sequences(path: Path) -> None:
    """Check that a new file of sequences can have this name.

    Raises
    ------
    StorageError
        If the suffix is not ``.npz``, or the file exists.
    """
    _check_suffix(path)
    require_absent(path, "file")


def _check_suffix(path: Path) -> None:
    if path.suffix != ".npz":
        raise StorageError(str(path), f"must end in .npz, got {path.suffix!r}")

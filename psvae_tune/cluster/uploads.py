"""Upload of recordings to a URL that a cluster can read, under the hash of their contents."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsspec.callbacks import Callback

from psvae_tune.errors import DataError, StorageError
from psvae_tune.files import as_storage_error, make_folder, sha256
from psvae_tune.tracking.folders import OutputFolder

FOLDER = "recordings"
OnBytes = Callable[[int], None]


class _Progress(Callback):
    """Callback of fsspec that passes on the number of bytes sent so far."""

    def __init__(self, on_bytes: OnBytes) -> None:
        super().__init__()
        self._on_bytes = on_bytes

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
        """Pass the number of bytes on."""
        self._on_bytes(self.value)


def upload(path: Path, output: OutputFolder, on_bytes: OnBytes) -> tuple[str, int]:
    """Send a recording, unless the same contents are there already.

    Parameters
    ----------
    path
        Recording on this machine.
    output
        Output folder, which must be a URL; the recording is written below it.
    on_bytes
        Called with the number of bytes sent so far.

    Returns
    -------
    tuple
        URL of the recording, and number of bytes that were sent.

    Side effects: writes to the output folder.

    Raises
    ------
    DataError
        If the file cannot be read.
    StorageError
        If it cannot be sent, or does not arrive whole.
    """
    if isinstance(output.root, Path):
        raise StorageError(
            str(output.root),
            "is a path, which names another folder on the cluster than here",
            hint="--upload needs an --output that both reach, such as s3://bucket/studies",
        )
    target = output.root / FOLDER / _read_hash(path) / path.name
    n_bytes = path.stat().st_size
    with as_storage_error(str(target)):
        # An object appears only when it is whole, and its hash identifies its contents.
        if target.exists() and target.stat().st_size == n_bytes:
            return str(target), 0
        make_folder(target.parent)
        target.fs.put_file(str(path), target.path, callback=_Progress(on_bytes))
        n_arrived = target.stat().st_size
    if n_arrived != n_bytes:
        raise StorageError(str(target), f"must hold {n_bytes} bytes once sent, got {n_arrived}")
    return str(target), n_bytes


def _read_hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror}") from error

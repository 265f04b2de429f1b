"""Locate, read and write files: a path on this machine, or a URL that fsspec can reach."""

import errno
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from urllib.parse import urlsplit

import fsspec
from upath import UPath
from upath.implementations.cloud import CloudPath

from psvae_tune.errors import PsvaeTuneError, StorageError
from psvae_tune.redaction import hide_passwords, holds_password

Location = Path | UPath
"""A file or a folder: a `Path` on this machine, a `UPath` behind a URL."""

# Larger than most clips, so that a clip takes one request and not one for each block of HDF5.
READ_AHEAD_BYTES = 8 * 2**20

DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}
"""Error numbers of a disk that is full, over its quota, broken, or read-only."""


def is_url(name: str) -> bool:
    """Return whether a name is a URL rather than a path on this machine."""
    return "://" in name


def check_public(url: str) -> None:
    """Refuse a URL that holds a password, because URLs are kept and shown.

    Raises
    ------
    StorageError
        If it holds a password.
    """
    if holds_password(url):
        raise StorageError(
            url,
            "holds a password, and what a study names is kept and shown",
            hint="give it in the environment, or in a configuration file of fsspec",
        )


def locate(name: str) -> Location:
    """Return the file or folder that a path or a URL names.

    Raises
    ------
    StorageError
        If nothing can reach URLs of its kind, or it holds a password.
    """
    if not is_url(name):
        return Path(name).resolve()
    check_public(name)
    with as_storage_error(name):
        urlsplit(name)  # raises at once what a UPath would raise when it is used
        # Other machines write there too, so no listing is cached.
        return UPath(name, use_listings_cache=False)


def open_url(url: str) -> IO[bytes]:
    """Open a file behind a URL for reading, any part of it in any order.

    Raises
    ------
    StorageError
        If it cannot be reached, cannot be read in parts, or holds a password.
    """
    check_public(url)
    with as_storage_error(url):
        file_system, path = fsspec.url_to_fs(url)
        file: IO[bytes] = file_system.open(path, "rb", block_size=READ_AHEAD_BYTES)
        if not file.seekable():
            raise StorageError(url, "cannot be read in parts: its server knows no ranges")
        return file


def require_absent(path: Path, kind: str) -> None:
    """Make sure that a new file or folder, as ``kind`` says, would not take another's place.

    Raises
    ------
    StorageError
        If it exists.
    """
    if path.exists():
        raise StorageError(str(path), "exists already", hint=f"choose another {kind}")


@contextmanager
def replace_when_whole(path: Path) -> Iterator[Path]:
    """Yield a name beside a path, to be written; what was written then takes the path's name.

    A reader of ``path`` sees either what was there before or all of what is new. If writing
    fails, ``path`` stays as it was. The folder of ``path`` must exist.

    Parameters
    ----------
    path
        The file, or the folder, to be written. A file there is replaced.

    Side effects
    ------------
    Removes what was written if an exception, Ctrl-C included, is raised inside.
    """
    # Drawn at random, because processes on several machines may have the same number.
    beside = path.with_name(f".{path.name}.{secrets.randbelow(10**9)}")
    try:
        yield beside
        if beside.is_file():
            with beside.open("rb") as file:
                os.fsync(file.fileno())
        beside.replace(path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        else:
            beside.unlink(missing_ok=True)


def write_bytes(path: Location, content: bytes) -> None:
    """Write a file so that nobody ever sees a part of it under its name.

    Side effects: creates the folder of the file.
    """
    if not isinstance(path, Path):
        write_object(path, content)  # an object store shows whole objects only
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_when_whole(path) as beside:
        beside.write_bytes(content)


def sha256(path: Path) -> str:
    """Return the SHA-256 of what a file contains, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def try_lock(file: IO[str]) -> bool:
    """Lock an open file; return whether no other process holds its lock.

    Side effects: the lock ends when the file is closed, or its process ends, however it does.

    Raises
    ------
    StorageError
        If this system has no such locks.
    """
    try:
        import fcntl
    except ImportError as error:
        raise StorageError(
            file.name,
            f"cannot be locked: {sys.platform} lacks the file locks of Unix",
            hint="run studies on Linux or macOS; on Windows use its Linux subsystem (WSL)",
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def folder_of(name: str, text: str) -> Iterator[Path]:
    """Yield a temporary folder that holds a text as its only file."""
    with TemporaryDirectory() as folder:
        write_bytes(Path(folder) / name, text.encode())
        yield Path(folder)


def copy_folder(source: Location, to: Location) -> None:
    """Copy every file of a folder to the same relative path in another folder."""
    for file in source.rglob("*"):
        if file.is_file():
            write_bytes(to / str(file)[len(str(source)) + 1 :], file.read_bytes())


def remove_remains(folder: Path) -> None:
    """Remove what processes that were killed in `replace_when_whole` had begun to write.

    Side effects: removes files below a folder that no other process writes to.
    """
    for path in folder.rglob(".*.[0-9]*"):
        path.unlink(missing_ok=True)


def is_disk_error(error: BaseException) -> bool:
    """Return whether the disk caused an error, so that making room or mounting it again helps."""
    return isinstance(error, OSError) and error.errno in DISK_ERRNOS


def write_object(path: UPath, content: bytes) -> None:
    """Write a file behind a URL. Side effects: creates its folder, where there are folders."""
    make_folder(path.parent)
    path.write_bytes(content)


def make_folder(folder: UPath) -> None:
    """Make a folder behind a URL, unless an object store holds it.

    Object stores have no folders, and would create a bucket if its name was mistyped.
    """
    if not isinstance(folder, CloudPath):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def as_storage_error(where: str) -> Iterator[None]:
    """Turn any exception of a file system into a `StorageError` about a file or folder.

    Raises
    ------
    StorageError
        If an exception that is not of this project was raised inside.
    """
    try:
        yield
    except PsvaeTuneError:
        raise
    except ImportError as error:
        raise StorageError(
            where, f"cannot be reached: {error}", hint="pip install 'psvae-tune[cluster]'"
        ) from error
    except FileNotFoundError as error:
        raise StorageError(where, "does not exist") from error
    except Exception as error:  # every service has exceptions of its own
        raise StorageError(where, f"cannot be reached: {_reason(error)}") from error


def _reason(error: Any) -> str:
    lines = hide_passwords(str(error)).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__

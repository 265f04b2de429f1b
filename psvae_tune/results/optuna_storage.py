"""A storage of Optuna: it is opened, and takes whole studies with their pictures, or nothing."""

import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import optuna
import sqlalchemy
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

from psvae_tune.errors import PsvaeTuneError, StorageError
from psvae_tune.redaction import hide_passwords
from psvae_tune.tracking.client import reason_of

_EXAMPLE = "give a database of its own, for example sqlite:///study.db"
_TABLES = {"studies", "trials", "version_info"}
"""Some of the tables of Optuna; other programs have a table of studies as well."""


@contextmanager
def open_storage(
    url: str, name: str, folder: Path | None
) -> Iterator[tuple[optuna.storages.RDBStorage, Path]]:
    """Open a storage and the folder of its pictures; an exception inside leaves neither if new.

    Parameters
    ----------
    url
        URL of a database.
    name
        Name of the study.
    folder
        Folder for the pictures, or None for the one that belongs to the database.

    Yields
    ------
    storage, folder

    Raises
    ------
    StorageError
        If the database is no storage of Optuna and cannot become one, or is not kept, or if the
        folder cannot be made.
    """
    with reporting(url):
        database = _find_file(url)
    is_new = database is not None and database.stat().st_size == 0  # a file without tables
    try:
        beside = database.with_suffix("") if database else name
        pictures = folder or Path(f"{beside}.artifacts")
        with _making(pictures, "name for the database" if folder is None else "folder"):
            with reporting(url):
                storage = optuna.storages.RDBStorage(url)
            try:
                yield storage, pictures
            finally:
                storage.remove_session()
                storage.engine.dispose()
    except BaseException:
        if is_new and database is not None:
            database.unlink(missing_ok=True)
        raise


@contextmanager
def reporting(url: str) -> Iterator[None]:
    """Turn every exception that is raised while a storage is used into one `StorageError`."""
    try:
        yield
    except PsvaeTuneError:
        raise
    except Exception as error:  # databases raise what their drivers raise
        cause = error
        while isinstance(cause.__cause__, Exception):
            cause = cause.__cause__
        problem = f"cannot be used as a storage of Optuna: {reason_of(cause)}"
        raise StorageError(url, problem, hint=_EXAMPLE) from error


def check_names_are_free(
    storage: optuna.storages.RDBStorage, url: str, names: Sequence[str]
) -> None:
    """Raise a `StorageError` if a storage holds a study of one of the names."""
    taken = sorted({item.study_name for item in storage.get_all_studies()} & set(names))
    if not taken:
        return
    delete = ("optuna", "delete-study", "--storage", hide_passwords(url), "--study-name")
    commands = " && ".join(shlex.join((*delete, name)) for name in taken)
    raise StorageError(
        url,
        f"holds {', '.join(taken)} already",
        hint=f"give another storage, or delete them: {commands}",
    )


def _find_file(url: str) -> Path | None:
    """Return the file of an SQLite database, made if it is absent; None for other databases."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    # Optuna would add its tables to those of another program, and their versions would clash.
    tables = set(sqlalchemy.inspect(engine).get_table_names())
    if tables and not tables >= _TABLES:
        raise StorageError(url, "is the database of another program", hint=_EXAMPLE)
    if engine.dialect.name != "sqlite":
        return None
    with engine.connect() as connection:
        # SQLite has many names for a database in memory, and knows none by its file.
        _, _, name = connection.exec_driver_sql("PRAGMA database_list").one()
    file = Path(name)
    if not file.is_file():
        raise StorageError(url, "is kept in memory only, and would be lost", hint=_EXAMPLE)
    return file


@contextmanager
def _making(folder: Path, other: str) -> Iterator[None]:
    """Make the folder of the pictures; an exception inside removes it if it was made."""
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            str(folder),
            f"cannot be made: {error.strerror}",
            hint=f"the pictures go there; give another {other}",
        ) from error
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


class Writer:
    """Writes studies of Optuna and their pictures; an exception inside leaves nothing of them."""

    def __init__(self, storage: optuna.storages.RDBStorage, folder: Path) -> None:
        self._storage = storage
        self._store = FileSystemArtifactStore(folder)
        self._studies: list[str] = []
        self._pictures: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        # What ended the writing may end this as well, and is the error to be told.
        for name in self._studies:
            with suppress(Exception):
                optuna.delete_study(study_name=name, storage=self._storage)
        for key in self._pictures:
            with suppress(Exception):
                self._store.remove(key)

    def make_study(
        self, name: str, objectives: Mapping[str, str], attributes: Mapping[str, Any]
    ) -> optuna.Study:
        """Make a study without trials.

        Parameters
        ----------
        name
            Name of the study.
        objectives
            ``min`` or ``max`` by the name of the metric.
        attributes
            What else is told of the study; None where nothing is known.
        """
        directions = {"min": "minimize", "max": "maximize"}
        made = optuna.create_study(
            study_name=name,
            storage=self._storage,
            directions=[directions[goal] for goal in objectives.values()],
        )
        self._studies.append(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made.set_metric_names(list(objectives))
        for key, value in attributes.items():
            if value is not None:
                made.set_user_attr(key, value)
        return made

    def keep(self, pictures: Mapping[str, bytes]) -> dict[str, Any]:
        """Store pictures; return the attributes by which a trial that has ended finds them."""
        # Optuna adds pictures only to trials that run, as this one does in a study in memory.
        study = optuna.create_study()
        self.add_pictures(study.ask(), pictures)
        return dict(study.trials[0].system_attrs)

    def add_pictures(
        self, target: optuna.Study | optuna.Trial, pictures: Mapping[str, bytes]
    ) -> None:
        """Add pictures to a study, or to a trial that runs, each under its name."""
        with TemporaryDirectory() as temporary:
            for name, content in pictures.items():
                path = Path(temporary) / name
                path.write_bytes(content)
                key = upload_artifact(
                    artifact_store=self._store, file_path=str(path), study_or_trial=target
                )
                self._pictures.append(key)

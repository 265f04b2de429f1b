"""Read CSV files: with commas, or with semicolons or tabs and decimal commas."""

import csv
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from psvae_tune.errors import DataError

_N_HEAD = 6
"""Rows that are looked at to find out what a table is."""
_MISSING = {"", "nan", "-nan", "na", "n/a", "#n/a", "null", "none"}


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A CSV file, and its first rows."""

    path: Path
    delimiter: str
    head: tuple[tuple[str, ...], ...]
    """The first rows, with stripped cells."""

    def read(
        self, n_header: int, columns: Sequence[int], texts: Sequence[int] = ()
    ) -> tuple[NDArray[np.float64], list[tuple[str, ...]]]:
        """Read numbers and texts below the header; a blank line is a row without any.

        Parameters
        ----------
        n_header
            Number of rows above the first one that counts.
        columns
            Columns of numbers. An empty cell is NaN.
        texts
            Columns of texts.

        Returns
        -------
        tuple
            The numbers, (row, column), and the texts of each row.

        Raises
        ------
        DataError
            If there is no row, a row is cut short, or a cell is no number.
        """
        numbers, found = array("d"), []
        width = max([*columns, *texts]) + 1
        with _opening(self.path) as file:
            rows = islice(_rows(file, self.delimiter), n_header, None)
            for line, row in enumerate(rows, n_header + 1):
                if not any(row):
                    row = ("",) * width
                if len(row) < width:
                    raise self._no_number(f"{len(row)} cells instead of {width}", line)
                for column in columns:
                    try:
                        numbers.append(float(row[column]))
                    except ValueError:
                        numbers.append(self._parse(row[column], line))
                found.append(tuple(row[column] for column in texts))
        if not found:
            raise DataError(str(self.path), "holds a header but no row")
        return np.frombuffer(numbers, np.float64).reshape(len(found), len(columns)), found

    def _parse(self, cell: str, line: int) -> float:
        """Return the number in a cell that Python does not read as one."""
        if cell.lower() in _MISSING:
            return np.nan
        try:
            # Between commas it may as well be a sign between thousands.
            return float(cell if self.delimiter == "," else cell.replace(",", "."))
        except ValueError:
            raise self._no_number(repr(cell[:40]), line) from None

    def _no_number(self, found: str, line: int) -> DataError:
        problem = f"must hold numbers below its header, got {found} in row {line}"
        return DataError(str(self.path), problem)


def open_csv(path: Path) -> CsvTable:
    """Find out how a CSV file separates its cells, and read its first rows.

    Raises
    ------
    DataError
        If it cannot be read as text.
    """
    with _opening(path) as file:
        delimiter = max(",;\t", key=file.readline().count)
        file.seek(0)
        return CsvTable(path, delimiter, tuple(islice(_rows(file, delimiter), _N_HEAD)))


@contextmanager
def _opening(path: Path) -> Iterator[TextIO]:
    """Open a file; whatever is wrong with its bytes becomes one error."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield file
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {(error.strerror or '').lower()}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(path), f"must be a CSV file, got {error}") from error


def _rows(file: TextIO, delimiter: str) -> Iterator[tuple[str, ...]]:
    for row in csv.reader(file, delimiter=delimiter):
        yield tuple(cell.strip() for cell in row)

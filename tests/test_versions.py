"""The releases that `pyproject.toml` allows are those that `tests/README.md` says were tested."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.versions import MAIN, RESOLUTIONS


@pytest.fixture(scope="module")
def specifiers(root):
    settings = tomllib.loads((root / "pyproject.toml").read_text())
    requirements = map(Requirement, settings["project"]["dependencies"])
    return {requirement.name: requirement.specifier for requirement in requirements}


@pytest.fixture(scope="module")
def rows(root):
    """Return the rows of the table: Python, resolution, and a version for each dependency."""
    found = []
    for line in (root / "tests" / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) > 2 and cells[1] in RESOLUTIONS:
            shown = dict(re.findall(r"([\w-]+) ([\d.]+)", cells[2]))
            found.append((cells[0], cells[1], {key: Version(v) for key, v in shown.items()}))
    return found


def test_every_release_that_was_tested_is_allowed(rows, specifiers):
    """Newer series of PyTorch were tried as well; the promise of equal numbers keeps them out."""
    assert {resolution for _, resolution, _ in rows} == set(RESOLUTIONS)
    for python, resolution, versions in rows:
        assert versions.keys() == set(MAIN)
        for name in versions.keys() - {"torch"}:
            assert versions[name] in specifiers[name], (python, resolution, name)


def test_no_release_is_allowed_beyond_the_last_series_that_was_tested(rows, specifiers):
    capped = {
        (name, Version(bound.version).release)
        for name, specifier in specifiers.items()
        for bound in specifier
        if bound.operator == "<"
    }
    assert capped
    for name, end in capped:
        series = {versions[name].release[: len(end)] for _, _, versions in rows}
        assert (*end[:-1], end[-1] - 1) in series, f"{name} <{end} was not tested to its end"

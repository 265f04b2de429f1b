"""A file of the user's must not hide a package: Python looks into the current folder first."""

import re
import sys
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from psvae_tune.errors import ConfigError

HARMLESS = {
    "test",
    "tests",
    "this",
    "turtle",
    "docs",
    "examples",
    "scripts",
    "benchmarks",
    "tools",
}
"""Names that Python has, or that packages install by mistake, and that no package imports."""
DISTRIBUTION = "psvae-tune"


def check_shadows(folder: Path) -> None:
    """Refuse a folder that holds a module with the name of one that is needed.

    Ray's workers, ``python -m psvae_tune`` and notebooks look for modules in the current folder.

    Parameters
    ----------
    folder
        The current folder.

    Raises
    ------
    ConfigError
        If there is such a module.
    """
    folder = folder.resolve()
    others = [place for place in sys.path if Path(place).resolve() != folder]
    files = {path.stem: path for path in folder.glob("*.py")}
    files |= {path.parent.name: path.parent for path in folder.glob("*/__init__.py")}
    files = {name: path for name, path in files.items() if name not in HARMLESS}
    hidden = {name for name in files if name in sys.stdlib_module_names}
    # Names of installed packages are looked up only if there may be one: that takes time.
    installed = {name for name in files if PathFinder.find_spec(name, others) is not None}
    if installed - hidden:
        needed = _list_needed()
        owners = packages_distributions()
        hidden |= {
            name
            for name in installed
            if any(_normalise(owner) in needed for owner in owners.get(name, ()))
        }
    for name in sorted(hidden):
        raise ConfigError(
            str(files[name]),
            f"hides the package {name!r}, which psvae-tune needs",
            hint="rename it, or run psvae-tune in another folder",
        )


def _list_needed() -> set[str]:
    """Return the names of the distributions that this one needs, and that they need."""
    needed: set[str] = set()
    left = [DISTRIBUTION]
    while left:
        try:
            wanted = requires(left.pop()) or []
        except PackageNotFoundError:
            continue  # an extra that is not installed
        names = {
            _normalise(re.split(r"[^\w.-]", item, maxsplit=1)[0])
            for item in wanted
            if "extra ==" not in item
        }
        left += names - needed
        needed |= names
    return needed


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

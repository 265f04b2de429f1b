"""A module in the current folder that has the name of a package is named in one error."""

import os
import subprocess
import sys

import pytest

from psvae_tune.errors import ConfigError
from psvae_tune.study.shadowing import check_shadows


# Of the package itself, of what it needs, of what that needs, and of Python.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["pandas", "yaml", "PIL", "sklearn", "sqlalchemy", "random"])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_module_that_hides_a_package(tmp_path, name, is_folder):
    file = tmp_path / name if is_folder else tmp_path / f"{name}.py"
    (tmp_path / "analysis.py").touch()
    if is_folder:
        file.mkdir()
        (file / "__init__.py").touch()
    else:
        file.touch()
    with pytest.raises(ConfigError, match=f"{file}: hides .*'{name}'.*needs") as raised:
        check_shadows(tmp_path)
    assert "rename it" in raised.value.hint


def test_modules_that_hide_nothing(tmp_path):
    for name in ("analysis", "test", "utils", "pandas_helpers", "my.module", "pytest"):
        (tmp_path / f"{name}.py").touch()
    for name in ("tests", "docs", "pandas"):  # a folder alone is no package
        (tmp_path / name).mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    check_shadows(tmp_path)


def test_the_repository_hides_nothing(root):
    check_shadows(root)


def test_the_program_says_so_before_it_imports_anything(tmp_path, root):
    (tmp_path / "pandas.py").write_text("raise RuntimeError")
    done = subprocess.run(
        [sys.executable, "-m", "psvae_tune", "check", "study.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'pandas.py'}: hides the package 'pandas'")
    assert "Traceback" not in done.stderr

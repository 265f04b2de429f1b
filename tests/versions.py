"""Do the tests pass with the oldest, or the newest, releases that `pyproject.toml` allows?

    python -m tests.versions {lowest,newest} [--python 3.12] [--folder FOLDER]

Makes a virtual environment, runs the default tests there and those of `END_TO_END`, and prints
one row of the table in `tests/README.md`. It takes some ten minutes of two cores and 2 GB, and
with a torch that includes CUDA 5 GB more. *Lowest* are the lower bounds themselves, or the first
release above them that has a wheel for this Python; what dependencies depend on is the newest.
uv and pytest read their variables: ``UV_TORCH_BACKEND=cpu`` takes torch without CUDA,
``UV_CONSTRAINT=FILE`` and ``UV_FIND_LINKS=FOLDER`` a file of it, ``PYTEST_ADDOPTS="-n 1"`` saves
a core.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
END_TO_END = (
    "tests/study/test_study_end_to_end.py",
    "tests/tracking/test_tracking_server.py",
    "tests/results/test_served_model.py",
    "tests/cluster/test_jobs.py",
    "tests/test_golden.py",
)
"""Files of slow tests: a study on Ray, a server of MLflow, a model behind one, a job on a cluster
of two nodes, and the numbers of a study."""
MAIN = (
    *("torch", "ray", "mlflow", "optuna", "pydantic", "sleap-io", "universal-pathlib"),
    *("numpy", "pandas", "scikit-learn", "h5py", "av"),
)
"""Dependencies whose versions the table shows: all that have an upper bound, and some more."""


def make_environment(folder: Path, resolution: str, python: str) -> Path:
    """Return the Python of a new environment with the package and all that its tests need."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", python, folder], check=True)
    # Old releases without a wheel were built with tools and a Python of their time.
    wanted = ["--only-binary", ":all:", "--resolution", RESOLUTIONS[resolution]]
    install = [*uv, "pip", "install", "--quiet", "--python", folder, *wanted, "--editable"]
    subprocess.run([*install, f"{ROOT}[dev]"], check=True)
    return folder / "bin" / "python"


def read_versions(python: Path) -> dict[str, str]:
    """Return the versions of Python and of the main dependencies in an environment."""
    program = (
        "import json, platform, sys\nfrom importlib.metadata import version\n"
        "print(json.dumps({'python': platform.python_version()}"
        " | {name: version(name) for name in sys.argv[1:]}))"
    )
    call = [python, "-c", program, *MAIN]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def run_tests(python: Path, *arguments: str) -> dict[str, int]:
    """Run tests and return how many passed, failed and were skipped. Side effects: prints."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environment["PYTHONPATH"] = str(ROOT)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "junit.xml"
        call = [python, "-m", "pytest", "--quiet", f"--junitxml={file}", *arguments]
        subprocess.run(call, cwd=ROOT, env=environment, stdout=sys.stderr, check=False)
        suites = ElementTree.parse(file).getroot().findall("testsuite")
    total, failures, errors, skipped = (
        sum(int(suite.attrib[name]) for suite in suites)
        for name in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    return {"passed": total - failed - skipped, "failed": failed, "skipped": skipped}


def describe(resolution: str, versions: dict[str, str], counts: list[dict[str, int]]) -> str:
    """Return a row of the table in `tests/README.md`."""
    shown = ", ".join(f"{name} {versions[name].partition('+')[0]}" for name in MAIN)
    totals = [str(sum(count[name] for count in counts)) for name in counts[0]]
    date = datetime.now(UTC).date().isoformat()
    return f"| {' | '.join([versions['python'], resolution, shown, *totals, date])} |"


def main() -> None:
    """Make, test and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("resolution", choices=RESOLUTIONS)
    parser.add_argument("--python", default=platform.python_version())
    parser.add_argument("--folder", type=Path, help="where the environment is made, and kept")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "venv"
        python = make_environment(folder, options.resolution, options.python)
        counts = [run_tests(python), run_tests(python, "-m", "slow", *END_TO_END)]
        print(describe(options.resolution, read_versions(python), counts))


if __name__ == "__main__":
    main()

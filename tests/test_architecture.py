"""The shape of the package: one direction of imports, small files, nothing heavy at start."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import psvae_tune
from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.models.registry import MODELS

PACKAGE = Path(psvae_tune.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# A file may import from the rows above its own, and from its own folder.
ROWS = [
    ["__init__", "metrics", "redaction"],
    ["errors"],
    ["files"],
    ["config"],
    ["data", "models", "tracking"],
    ["training"],
    ["cluster", "results"],
    ["search"],
    ["study"],
    ["cli"],
    ["__main__"],
]
ROW = {name: i for i, row in enumerate(ROWS) for name in row}
HEAVY = ("torch", "ray", "mlflow", "optuna", "sklearn", "pandas")


def unit(module: str) -> str:
    """Return the file or folder of the package that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            if node.module == "psvae_tune":
                found += [f"psvae_tune.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    here = place(path)
    assert here in ROW, f"{here} has no row in the table"
    for module in imports(path):
        if module.partition(".")[0] != "psvae_tune":
            continue
        there = unit(module)
        if there in ("__version__", here, "__init__"):
            continue
        assert ROW[there] < ROW[here], f"{path.name} ({here}) imports {module} ({there})"


@pytest.mark.parametrize(
    ("library", "places"),
    [
        ("click", {"cli"}),
        ("mlflow", {"tracking"}),
        ("optuna", {"results", "search"}),
        ("ray", {"cluster", "search", "study"}),
        ("rich", {"cli"}),
    ],
)
def test_libraries_stay_in_their_place(library, places):
    users = {
        place(path)
        for path in FILES
        if any(module.partition(".")[0] == library for module in imports(path))
    }
    assert users <= places


def test_only_the_command_line_prints():
    for path in FILES:
        names = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in names, path


def test_backward_stands_once():
    callers = [
        path.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "backward"
    ]
    assert callers == ["fit.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_small_and_say_what_they_are(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    assert ast.get_docstring(ast.parse(text))
    assert path.stem not in ("utils", "helpers", "common", "base", "misc")


def test_models_are_registered_under_the_names_of_their_settings():
    assert set(MODELS) == set(MODEL_CONFIGS)


def test_no_branch_on_a_model_name_outside_the_registry():
    for path in FILES:
        if path.name == "registry.py" or place(path) == "models":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                values = [item.value for item in ast.walk(node) if isinstance(item, ast.Constant)]
                assert not set(MODEL_CONFIGS) & {v for v in values if isinstance(v, str)}, path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["check", "search_spaces/ps_vae.yaml"],
        ["check", "search_spaces/absent.yaml"],
        ["resume", "absent"],
        ["data", "demo"],
        ["data", "info", "absent.h5"],
        ["data", "import", "absent.mp4", "-o", "absent.h5"],
    ],
)
def test_quick_commands_load_nothing_heavy(arguments, root):
    program = (
        "import sys\nfrom psvae_tune.cli import main\n"
        f"main({arguments!r}, standalone_mode=False) if False else None\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])\n"
    ).replace(f"main({arguments!r}, standalone_mode=False) if False else None\n", "")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True
    )
    assert "LOADED []" in done.stdout, done.stdout

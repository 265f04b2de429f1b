"""The shape of the package: one direction of imports, small files, nothing heavy at start."""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import psvae_tune
from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.models.registry import MODELS
from tests.support.imports import (
    find_circle,
    list_imports,
    read_modules,
    room_of,
)

PACKAGE = Path(psvae_tune.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = read_modules()

# A room imports from the rows above its own, and from itself.
ROWS = [
    ["__init__", "redaction"],
    ["errors"],
    ["files"],
    ["metrics"],
    ["config"],
    ["data"],
    ["models", "tracking"],
    ["training"],
    ["results", "cluster"],
    ["search"],
    ["study"],
    ["api"],
    ["cli"],
    ["__main__"],
]
ROW = {name: i for i, row in enumerate(ROWS) for name in row}
MAX_MODULES, MAX_PACKAGES = 7, 12
MAX_LINES = 300
"""Lines of a file; a longer one says before its imports "The file is long because …"."""
MAX_FUNCTION_LINES = 40
"""Lines of code of a function without a docstring."""
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
HEAVY = ("torch", "ray", "mlflow", "optuna", "sklearn", "pandas")


def place(path: Path) -> str:
    """Return the room that a file lies in."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_room_has_a_row():
    assert {place(path) for path in FILES} == set(ROW)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    here = room_of(module)
    for other in MODULES[module]:
        there = room_of(other)
        if there not in (here, "__init__"):
            assert ROW[there] < ROW[here], f"{module} in {here} imports {other} from {there}"


def test_no_imports_go_in_a_circle():
    circle = find_circle(MODULES)
    assert not circle, " → ".join(circle)


def test_the_root_holds_few_modules_and_few_packages():
    assert len(list(PACKAGE.glob("*.py"))) <= MAX_MODULES
    assert len(list(PACKAGE.glob("*/__init__.py"))) <= MAX_PACKAGES


def test_packages_are_a_sentence_and_nothing_else():
    for path in PACKAGE.glob("**/__init__.py"):
        body = ast.parse(path.read_text()).body
        if path.parent != PACKAGE:  # which offers the public functions
            assert len(body) == 1, path
        assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.parametrize(
    ("library", "places"),
    [
        ("mlflow", {"tracking"}),
        ("ray", {"cluster", "search", "study"}),
        ("optuna", {"search", "results"}),
        ("click", {"cli"}),
        ("rich", {"cli", "study"}),
    ],
)
def test_libraries_stay_in_their_place(library, places):
    users = {
        place(path)
        for path in FILES
        if any(module.partition(".")[0] == library for module in list_imports(path))
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
    assert callers == ["step.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_small_and_say_what_they_are(path):
    text = path.read_text()
    top = text.partition("\nimport ")[0].partition("\nfrom ")[0]
    assert text.count("\n") <= MAX_LINES or "long because" in top, "say at the top why"
    assert ast.get_docstring(ast.parse(text))
    assert path.stem not in ("utils", "helpers", "common", "base", "misc")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_long_functions_have_a_docstring(path):
    text = path.read_text()
    lines = {
        number
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in NO_CODE
        for number in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and not ast.get_docstring(node):
            n_lines = len(lines & set(range(node.lineno, (node.end_lineno or 0) + 1)))
            assert n_lines <= MAX_FUNCTION_LINES, f"{node.name} has {n_lines} lines"


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
        "import sys\nfrom psvae_tune.cli.commands import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True
    )
    assert "LOADED []" in done.stdout, done.stdout

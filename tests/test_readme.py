"""The README and the pages that it links to keep their word."""

import ast
import re
import shlex
import subprocess
import sys
import textwrap
from typing import Literal

import click
import pytest
import torch
import yaml
from click.testing import CliRunner
from pydantic import Field

import psvae_tune
from psvae_tune.cli.commands import main
from psvae_tune.config.metric_catalog import METRICS, STAGE_METRICS
from psvae_tune.config.model import ModelConfig, NonNegative
from psvae_tune.models.batch import Batch, DataShape, Term
from psvae_tune.models.model import Model
from psvae_tune.study.plan import make_plan
from tests.support.imports import read_modules, to_rooms

PAGES = [
    "README.md",
    ".github/CONTRIBUTING.md",
    ".github/CHANGELOG.md",
    "search_spaces/README.md",
    "tests/README.md",
    "tests/benchmarks/README.md",
    "tests/faults/README.md",
]
MAX_LINES, MAX_WORDS, MAX_PICTURE_BYTES = 200, 1500, 2_000_000


@pytest.fixture(scope="module")
def pages(root):
    return {page: (root / page).read_text() for page in PAGES}


@pytest.fixture(scope="module")
def readme(pages):
    return pages["README.md"]


def blocks(page, language):
    """Return the code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.S | re.M)


def rows(page, heading):
    """Return the cells of the table under a heading row."""
    table = page[page.index(f"\n| {heading}") + 1 :].partition("\n\n")[0]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]


def anchors(page):
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_read_in_ten_minutes(readme):
    assert readme.count("\n") <= MAX_LINES
    assert len(readme.split()) <= MAX_WORDS


def test_the_two_commands_install_and_stand_near_the_top(readme):
    lines = [line for line in readme.splitlines()[:40] if line.startswith("pip install")]
    assert len(lines) == 2
    assert lines[0].endswith("psvae-tune run search_spaces/ps_vae.yaml")
    assert lines[1].endswith("pytest")


def test_the_plan_that_is_shown_is_the_plan(pages, root):
    page = pages["search_spaces/README.md"]
    shown = re.search(r"<!-- sample:check -->\n```\n(.*?)```", page, re.S)[1]
    result = CliRunner().invoke(main, ["check", str(root / "search_spaces" / "ps_vae.yaml")])
    assert result.output == shown


@pytest.mark.parametrize("page", ["README.md", "search_spaces/README.md"])
def test_every_command_that_is_shown_exists(pages, page):
    text = pages[page]
    shown = re.findall(r"^(?:.*&& )?psvae-tune (.*)$", "\n".join(blocks(text, "")), re.M)
    shown += re.findall(r"`psvae-tune ([^`…]+)`", text)
    assert shown
    for line in shown:
        name, *arguments = shlex.split(line, comments=True)
        command = main.commands[name]
        if isinstance(command, click.Group) and arguments:
            command = command.commands[arguments[0]]
        known = {option for param in command.params for option in param.opts}
        options = {argument for argument in arguments if argument.startswith("-")}
        assert options <= known, line


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_heading_that_is_linked_exists(pages, page, root):
    folder = (root / page).parent
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", pages[page]):
        path, _, anchor = target.partition("#")
        linked = (folder / path).resolve() if path else root / page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text()), target
    for path in re.findall(r"(?:search_spaces|tests|docker)/[\w/]+\.(?:yaml|py|sh)", pages[page]):
        assert (root / path).exists() or path == "search_spaces/absolute_ae.yaml", path


def test_pictures_are_small_and_shown(readme, root):
    pictures = sorted((root / ".github" / "pictures").glob("*"))
    assert sum(path.stat().st_size for path in pictures) < MAX_PICTURE_BYTES
    for path in pictures:
        assert f"(.github/pictures/{path.name})" in readme


def test_every_room_has_the_sentence_of_its_package(readme, root):
    packages = root / "psvae_tune"
    sentences = {
        path.parent.name: ast.get_docstring(ast.parse(path.read_text()))
        for path in packages.glob("*/__init__.py")
    }
    shown = {name.strip("`"): sentence for name, sentence in rows(readme, "room")}
    assert shown == sentences


def test_every_room_imports_from_rooms_below_it(readme):
    order = [name.strip("`") for name, _ in rows(readme, "room")]
    for room, imported in to_rooms(read_modules()).items():
        if room in order:
            below = order[order.index(room) + 1 :]
            assert imported & set(order) <= set(below), room


def test_every_metric_is_explained(pages):
    page = pages["search_spaces/README.md"]
    shown = {name.strip("`"): goal for name, goal, _ in rows(page, "metric")}
    assert shown == {name: metric.goal for name, metric in METRICS.items()}
    assert all(f"`{name}`" in page for name in STAGE_METRICS)


def test_symptoms_name_metrics(readme):
    names = re.findall(r"`(\w+)`", " ".join(says for _, says, _ in rows(readme, "you see")))
    assert names
    assert set(names) <= set(METRICS)


def test_every_study_file_stands_in_the_table_of_models(readme, root):
    shown = re.findall(r"`(\w+\.yaml)`", " ".join(files for _, files, _ in rows(readme, "model")))
    assert sorted(shown) == sorted(path.name for path in (root / "search_spaces").glob("*.yaml"))


def test_the_study_file_that_is_shown_is_accepted(readme):
    (text,) = blocks(readme, "yaml")
    raw = yaml.safe_load(text)
    raw["data"]["sessions"] = ["demo"]
    plan = make_plan(raw, "README.md")
    assert [stage.name for stage in plan.study.stages] == ["alpha"]


def shorten(text, changes):
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_python_example_runs(readme, root, tmp_path):
    (example,) = blocks(readme, "python")
    # The example is checked, and not the model: few epochs, a small network and four trials are
    # enough.
    example = shorten(
        example,
        {'"max_n_epochs": 5': '"max_n_epochs": 2', 'anneal_epochs": 2': 'anneal_epochs": 1'},
    )
    file = tmp_path / "search_spaces/ps_vae.yaml"
    file.parent.mkdir()
    text = (root / "search_spaces/ps_vae.yaml").read_text()
    changes = {
        "n_channels: [16, 32, 64]": "n_channels: [4, 4, 8]",
        "{grid_search: [50, 100, 500, 1000]}": "{grid_search: [50, 100]}",
        "{grid_search: [1, 5, 10, 20]}": "{grid_search: [1, 5]}",
        "{grid_search: [0, 1, 2]}": "{grid_search: [0, 1]}",
    }
    file.write_text(shorten(text, changes))
    checks = """
    assert 4 <= len(result.trials()) <= 5
    assert any("ps_vae.alpha" in reason for reason in result.explain())
    assert model.transform(session).shape == (1600, 6)
    assert model.predict_labels(session).shape == (1600, 4)
    steps = model.traverse(session.frames[0], "unsupervised 0", [-2, 0, 2])
    assert steps.shape == (3, 1, 32, 32)
    assert one.metrics["test/label_r2"] <= 1
    """
    done = subprocess.run(
        [sys.executable, "-c", example + textwrap.dedent(checks)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_model_that_is_added_in_contributing_can_be_trained(pages):
    names = {
        "Field": Field,
        "Literal": Literal,
        "Model": Model,
        "ModelConfig": ModelConfig,
        "NonNegative": NonNegative,
        "Term": Term,
    }
    for block in blocks(pages[".github/CONTRIBUTING.md"], "python"):
        exec(block, names)  # our own page
    raw = {"model_class": "absolute-ae", "n_ae_latents": 2, "absolute_ae.weight": 3}
    model = names["AbsoluteAE"](names["AbsoluteAEConfig"](**raw), DataShape(1, 32, 32, 0, 1))
    terms = model.terms(Batch(frames=torch.rand(4, 1, 32, 32)), 1.0, None)
    assert set(terms.values()) == {"frame_error"}
    terms.loss.backward()
    assert any(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_every_benchmark_has_a_heading(pages, root):
    headings = re.findall(r"^## (\w+\.py)$", pages["tests/benchmarks/README.md"], re.M)
    scripts = {path.name for path in (root / "tests" / "benchmarks").glob("*.py")}
    assert sorted(headings) == sorted(scripts - {"__init__.py"})


def test_commits_are_checked_as_continuous_integration_checks(root):
    settings = yaml.safe_load((root / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"]: hook["entry"] for repo in settings["repos"] for hook in repo["hooks"]}
    program = (root / ".ci" / "run").read_text()
    assert hooks.pop("architecture").endswith("tests/test_architecture.py")
    assert set(hooks.values()) <= set(program.splitlines())


def test_the_citation_names_this_version(root):
    citation = yaml.safe_load((root / ".github" / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == psvae_tune.__version__
    assert citation["license"] == "MIT"

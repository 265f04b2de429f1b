"""The README keeps its word: samples, commands, links."""

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from psvae_tune.cli.commands import main
from psvae_tune.config.metric_catalog import METRICS


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text()


def sample(readme, name):
    return re.search(rf"<!-- sample:{name} -->\n```\n(.*?)```", readme, re.S)[1]


def test_the_plan_that_is_shown_is_the_plan(readme, root):
    result = CliRunner().invoke(main, ["check", str(root / "search_spaces" / "ps_vae.yaml")])
    assert result.output == sample(readme, "check")


def test_the_two_commands_install_and_stand_near_the_top(readme):
    lines = [line for line in readme.splitlines()[:40] if line.startswith("pip install")]
    assert len(lines) == 2
    assert lines[0].endswith("psvae-tune run search_spaces/ps_vae.yaml")
    assert lines[1].endswith("pytest")


def test_every_command_that_is_shown_exists(readme):
    shown = re.findall(r"^(?:pip install \S+ \S+ && )?psvae-tune (.*)$", readme, re.M)
    assert shown
    for line in shown:
        name, *arguments = shlex.split(line, comments=True)
        command = main.commands[name]
        if isinstance(command, click.Group):
            command = command.commands[arguments[0]]
        known = {option for param in command.params for option in param.opts}
        options = {argument for argument in arguments if argument.startswith("-")}
        assert options <= known, line


def test_every_file_that_is_named_exists(readme, root):
    for path in re.findall(r"(?:search_spaces|tests)/[\w/]+\.(?:yaml|py)", readme):
        assert (root / path).exists(), path


def test_metrics_that_are_explained_exist(readme):
    table = readme[readme.index("| metric | meaning |") :].partition("\n\n")[0]
    names = [
        name
        for row in table.splitlines()[2:]
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert names
    assert set(names) <= set(METRICS)

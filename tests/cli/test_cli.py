"""The command line: what it prints, and what it says to bad input."""

import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import click
import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from psvae_tune.cli.commands import main
from psvae_tune.data.demo import write_demo
from psvae_tune.tracking.folders import OutputFolder


def call(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def file(root):
    return root / "search_spaces" / "ps_vae_published.yaml"


@pytest.fixture
def session(tmp_path):
    path = tmp_path / "session.h5"
    write_demo(path, n_clips=10, clip_length=5, size=16)
    return path


def test_check_prints_the_plan(file, session):
    result = call("check", file, "--data", session, "--set", "training.max_n_epochs=30")
    assert result.exit_code == 0, result.output
    assert "ps-vae: up to 11 trials of up to 30 epochs" in result.output
    assert "ps_vae.alpha  50 100 500 1000" in result.output
    assert "10 clips, 50 frames of 1×16×16, 4 labels" in result.output
    assert "train 40, val 5, test 5" in result.output


def list_commands(group, *before):
    """Yield every command below a group: the words that call it, and itself."""
    for name, command in group.commands.items():
        yield (*before, name), command
        if isinstance(command, click.Group):
            yield from list_commands(command, *before, name)


def test_every_command_has_help():
    for names, command in list_commands(main):
        assert names[-1] in call(*names[:-1], "--help").output
        assert command.help
        assert call(*names, "--help").exit_code == 0


COMMANDS = dict(list_commands(main))
EPILOGS = [main.epilog, *(command.epilog for command in COMMANDS.values() if command.epilog)]
EXAMPLES = {
    line.strip()
    for epilog in EPILOGS
    for line in epilog.replace("\\\n", " ").splitlines()
    if line.strip().startswith("psvae-tune ")
}


@pytest.mark.parametrize("example", sorted(EXAMPLES))
def test_the_examples_of_help_parse(example):
    arguments = shlex.split(example)[1:]
    command = main
    while isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    with command.make_context("example", arguments) as context:
        assert set(context.params) == {
            param.name for param in command.params if param.expose_value
        }


def test_examples_of_help_are_found():
    assert any("--set" in example for example in EXAMPLES)
    assert any(example.startswith("psvae-tune data import ") for example in EXAMPLES)


def wrong_group(path):
    with h5py.File(path, "a") as f:
        del f["labels"]


def fewer_rows(path):
    with h5py.File(path, "a") as f:
        del f["labels/trial_0003"]
        f["labels/trial_0003"] = np.zeros((4, 4), np.float32)


def empty_clip(path):
    with h5py.File(path, "a") as f:
        for group in ("images", "labels", "labels_masks", "labels_sc"):
            shape = f[f"{group}/trial_0003"].shape
            del f[f"{group}/trial_0003"]
            f[f"{group}/trial_0003"] = np.zeros((0, *shape[1:]), np.float32)


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_hdf5(path):
    path.write_text("frames")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (wrong_group, "labels"),
        (fewer_rows, "trial_0003"),
        (empty_clip, "trial_0003"),
        (cut_short, "cut short"),
        (no_hdf5, "must be an HDF5 file"),
    ],
)
def test_a_bad_recording_is_one_message_before_training(file, session, tmp_path, spoil, message):
    spoil(session)
    out = tmp_path / "out"
    for command in (["check"], ["run", "--output", out]):
        result = call(*command, file, "--data", session)
        assert result.exit_code == 2
        assert "error: " in result.output
        assert str(session) in result.output
        assert message in result.output
    assert not out.exists()


def constant_label(path):
    with h5py.File(path, "a") as f:
        for clip in f["labels"].values():
            clip[:, 1] = 7


def masked_label(path):
    with h5py.File(path, "a") as f:
        for clip in f["labels_masks"].values():
            clip[:, 1] = 0


def not_a_number(path):
    with h5py.File(path, "a") as f:
        f["labels_masks/trial_0002"][:] = 1
        f["labels/trial_0002"][3, 1] = np.nan


def float_frames(path):
    with h5py.File(path, "a") as f:
        for name, clip in list(f["images"].items()):
            frames = clip[()].astype(np.float32)
            del f["images"][name]
            f[f"images/{name}"] = frames


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (constant_label, "paw_right_x"),
        (masked_label, "paw_right_x"),
        (not_a_number, "trial_0002"),
        (float_frames, "[0, 1]"),
    ],
)
def test_bad_values_are_told_before_training(file, session, tmp_path, spoil, message):
    spoil(session)
    result = call("run", file, "--data", session, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.output
    assert not list(tmp_path.glob("out/*/journal.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "model.ps_vae.alpha=x"], "model.ps_vae.alpha"),
        (["--set", "training.max_n_epochs=3"], "at least the 15 epochs of annealing, got 3"),
        (["--tracking-uri", "http://127.0.0.1:9"], "does not answer: Connection refused"),
        (["--tracking-uri", "gopher://x"], "tracking URI gopher://x"),
        (["--output", "/proc/nothing"], "cannot be written"),
        (["--name", "../x"], "must consist of up to 100 letters"),
    ],
)
def test_bad_options_of_run(file, session, tmp_path, arguments, message):
    base = ["run", file, "--data", session]
    if "--output" not in arguments:
        base += ["--output", tmp_path / "out"]
    result = call(*base, *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.glob("out/*/study.yaml"))


def test_resuming_what_is_not_there(tmp_path):
    result = call("resume", tmp_path / "absent")
    assert result.exit_code == 2
    assert "no readable study.yaml" in result.output


def test_one_configuration_trains_in_this_process(file, session, tmp_path):
    settings = ["--set", "training.max_n_epochs=2", "--set", "model.ps_vae.anneal_epochs=1"]
    result = call(
        "run", file, "--data", session, "--output", tmp_path / "out", "--inline", *settings
    )
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1", "2", "2"]
    assert "test/label_r2" in lines[-1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_the_pages_need_studies_and_a_free_port(tmp_path):
    assert "holds no studies" in call("ui", "--output", tmp_path).output
    (tmp_path / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = call("ui", "--output", tmp_path, "--port", port)
    assert result.exit_code == 2
    assert "choose another with --port" in result.output


def test_studies_that_are_kept_elsewhere_start_no_server(tmp_path):
    closed = free_port()
    for name, uri in (
        ("file", f"sqlite:///{tmp_path}/other.db"),
        ("away", f"http://127.0.0.1:{closed}"),
    ):
        study = OutputFolder(tmp_path / "out").study(name)
        study.root.mkdir(parents=True)
        study.study_file.write_text("")
        study.save_tracking(uri, "7")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = call("ui", "--output", tmp_path / "out", "--port", port)
    assert result.exit_code == 2
    assert (
        result.stdout == f"file: mlflow server --backend-store-uri sqlite:///{tmp_path}/other.db\n"
    )
    assert f"http://127.0.0.1:{closed}" in result.stderr
    assert "does not answer" in result.stderr


@pytest.mark.slow
def test_the_pages_open_on_loopback_and_end_with_ctrl_c(file, session, tmp_path):
    shutil.copy(file, tmp_path / "study.yaml")
    settings = ["--set", "training.max_n_epochs=2", "--set", "model.ps_vae.anneal_epochs=1"]
    out = tmp_path / "out"
    inline = call("run", file, "--data", session, "--output", out, "--inline", *settings)
    assert inline.exit_code == 0, inline.output
    port = free_port()
    program = "from psvae_tune.cli.commands import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "ui", "--output", str(out), "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        link = process.stdout.readline()
        assert f"http://127.0.0.1:{port}/#/experiments/" in link
        assert "compareRunsMode=CHART" in link
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as page:
                    assert page.status == 200
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def test_a_study_that_was_changed_goes_on_only_if_that_is_accepted(file, session, tmp_path):
    settings = ["--set", "training.max_n_epochs=2", "--set", "model.ps_vae.anneal_epochs=1"]
    study = tmp_path / "out" / "study"
    begin = ["run", file, "--data", session, "--output", study.parent, "--name", "study"]
    assert call(*begin, *settings, "--inline").exit_code == 0
    before = (study / "study.yaml").read_bytes()
    result = call("resume", study, "--set", "model.ps_vae.beta=7")
    assert result.exit_code == 2
    assert "model.ps_vae.beta was 1, is 7" in result.output
    write_demo(session, n_clips=10, clip_length=5, size=16, seed=9)
    result = call("resume", study)
    assert result.exit_code == 2
    assert f"the contents of {session} have changed" in result.output
    assert "--accept-changes" in result.output
    assert (study / "study.yaml").read_bytes() == before
    result = call("resume", study, "--set", "search.stages.alhpa.num_trials=3")
    assert result.exit_code == 2
    assert "names no stage, got 'alhpa'" in result.output


def test_a_probe_tells_hours_and_memory(file, session):
    result = call("check", file, "--data", session, "--probe")
    assert result.exit_code == 0, result.output
    assert "epochs     up to 450, 19 % of the 2400 of the grid over all stages" in result.output
    assert re.search(
        r"^time       \S+ s an epoch, \d+ trials? at a time, up to \S+ (min|h)$",
        result.output,
        re.M,
    )
    memory = re.search(r"^memory     0 MB of recordings, about (\d+) MB", result.output, re.M)
    assert int(memory[1]) > 50

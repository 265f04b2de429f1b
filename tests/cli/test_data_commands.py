import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from psvae_tune.cli.commands import main
from psvae_tune.data.demo import write_demo
from psvae_tune.data.quality_measures import measure_session
from psvae_tune.results.recording_page import draw_contact_sheet


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result.output

    return run


@pytest.fixture
def demo(tmp_path) -> Path:
    write_demo(tmp_path / "demo.h5")
    return tmp_path / "demo.h5"


def test_check_prints_findings_and_writes_a_page_with_nothing_outside(run, demo, tmp_path):
    output = run("data", "check", demo, "--html")
    assert "good lag: labels fit their own frames best" in output
    page = (tmp_path / "check.html").read_text()
    assert page.count('src="data:image/png;base64,') == 2
    assert "http" not in page


def test_what_a_file_says_of_itself_is_escaped_in_the_page(run, demo, tmp_path):
    with h5py.File(demo, "r+") as file:
        file.attrs["label_names"] = '["<script>", "b", "c", "d"]'
        for clip in file["labels"].values():
            clip[:, 0] = 1
    run("data", "check", demo, "--html", "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_check_does_not_write_over_a_session(run, demo):
    before = demo.read_bytes()
    assert "must be a page to write" in run("data", "check", demo, "--html", demo, code=2)
    assert demo.read_bytes() == before


def test_labels_are_drawn_where_they_are(tmp_path):
    frames = np.zeros((20, 1, 40, 60), np.uint8)
    frames[:, :, 0, 0] = np.arange(20)[:, None]
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        file.attrs["label_names"] = '["a_x", "a_y"]'
        for name, array in (
            ("images", frames),
            ("labels", np.full((20, 2), [45.0, 10.0])),
            ("labels_sc", np.full((20, 2), [45.0, 10.0])),
        ):
            file[f"{name}/trial_0000"] = array
    png = tmp_path / "sheet.png"
    png.write_bytes(draw_contact_sheet(measure_session(str(path))))
    pixels = np.asarray(Image.open(png).convert("RGB")).astype(int)
    dark = pixels.sum(2) < 60
    rows, columns = np.flatnonzero(dark.mean(1) > 0.5), np.flatnonzero(dark.mean(0) > 0.5)
    # The first frame: dark from its corner on until the white gap to the next.
    height = np.flatnonzero(np.diff(rows) > 1)[0] + 1
    width = np.flatnonzero(np.diff(columns) > 1)[0] + 1
    tile = pixels[rows[0] : rows[0] + height, columns[0] : columns[0] + width]
    y, x = np.nonzero(np.ptp(tile, axis=2) > 60)  # the dot is the only colour
    assert x.mean() / width == pytest.approx(45 / 60, abs=0.02)
    assert y.mean() / height == pytest.approx(10 / 40, abs=0.02)


def test_info_prints_what_a_session_holds(run, demo):
    output = run("data", "info", demo)
    assert "1600 of 1×32×32" in output
    assert "20 of 80 frames" in output
    assert "paw_left_x" in output


def test_merge_lists_sessions_that_go_together(run, demo, tmp_path):
    write_demo(tmp_path / "other.h5", seed=1)
    run("data", "merge", "demo.h5", "other.h5", "-o", "sessions.csv")
    with (tmp_path / "sessions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"path": str(demo)}, {"path": str(tmp_path / "other.h5")}]
    assert "exists" in run("data", "merge", "demo.h5", "-o", "sessions.csv", code=2)
    assert "listed once" in run("data", "merge", "demo.h5", "demo.h5", "-o", "b.csv", code=2)
    write_demo(tmp_path / "large.h5", size=64)
    message = run("data", "merge", "demo.h5", "large.h5", "-o", "c.csv", code=2)
    assert "frames must be (1, 32, 32)" in message
    assert not (tmp_path / "c.csv").exists()


def test_split_shows_every_clip(run, demo):
    lines = run("data", "split", demo, "--trial-splits", "6;1;1;1", "--show").splitlines()
    signs = lines[-1].split()[1]
    assert len(signs) == 20
    assert "  val   1 clips, 80 frames" in lines
    assert "T" in signs.replace("TV", "").replace("VT", "")
    assert "TV" not in signs
    assert "VE" not in signs


def test_import_from_the_command_line(run, tmp_path, shared):
    data = shared / "data" / "mirror_mouse"
    output = run(
        *("data", "import", data / "180607_004.mp4", "--pose", next(data.glob("*.csv"))),
        *("-o", "mouse.h5", "--size", "64x48", "--frames", "0:200", "--keypoints", "paw1LH_bot"),
    )
    assert "200 of 1×48×64 at 250 Hz in 20 clips of 10, 2 labels" in output
    assert (tmp_path / "mouse.h5").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "64"], "must read WxH, width first"),
        (["--crop", "64x64"], "must read WxH+X+Y"),
        (["--frames", "5"], "must read START:STOP"),
        (["--pose", "a.csv", "--pose", "b.csv"], "must be given once a video, got 2"),
        ([], "no such file"),
    ],
)
def test_requests_that_cannot_be_read_are_refused(run, tmp_path, options, message):
    assert message in run("data", "import", "absent.mp4", "-o", "s.h5", *options, code=2)
    assert list(tmp_path.iterdir()) == []

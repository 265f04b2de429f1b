"""Names and paths that are more than names: markup, commands, ways out of a folder."""

import os
from html.parser import HTMLParser

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from psvae_tune.cluster.uploads import upload
from psvae_tune.data.demo import write_demo
from psvae_tune.data.quality_findings import find_issues
from psvae_tune.data.quality_measures import measure_session
from psvae_tune.data.session_file import read_session, write_session
from psvae_tune.data.session_header import read_header
from psvae_tune.errors import DataError, StorageError
from psvae_tune.files import locate, open_url
from psvae_tune.results.logged_study import open_study
from psvae_tune.results.recording_page import build_session_page
from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.mlflow_private import metric_key
from psvae_tune.tracking.study_run import StudyRun
from tests.support.hostile import N_INPUTS, attempt, sample, text

pytestmark = pytest.mark.timeout(0 if N_INPUTS else 300)

MARKUP = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "'\"&",
    "{{ 7*7 }}",
]


@sample()
@given(name=text)
def test_studies_stay_in_their_folder(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp() / "out"
    folder = OutputFolder(root)
    refusal = attempt("study name", lambda: folder.study(name).journal.append({"stage": None}))
    assert refusal or (root / name).is_dir()
    assert not [path for path in root.parent.glob("*") if path.name == name != "out"]


@sample()
@given(names=st.lists(text | st.text("ab./ !?", max_size=5), min_size=2, max_size=2, unique=True))
def test_every_label_has_a_metric_of_its_own(names):
    assume(all(name and name.isprintable() for name in names))
    keys = [metric_key(f"test/label_r2/{name}") for name in names]
    for key in keys:
        _validate_metric_name(key)
    assert keys[0] != keys[1]


class Tags(HTMLParser):
    """Collects the tags of a page and those of their attributes that act."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.actions = set(), set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.actions |= {name for name, _ in attrs if name.startswith("on")}


def write_marked(path, label_names):
    write_demo(path, n_clips=10, clip_length=6, size=16)
    session = read_session(path, needs_labels=True)
    write_session(
        path,
        session.frames,
        session.header.clip_lengths,
        label_names=label_names[: session.header.n_labels],
        labels=session.labels,
    )
    return path


def test_the_page_of_a_session_shows_markup_as_text(tmp_path):
    path = write_marked(tmp_path / "<img src=x onerror=alert(1)>.h5", MARKUP)
    measures = measure_session(str(path))
    page = build_session_page([(measures, find_issues(measures))])
    found = Tags(page)
    assert "script" not in found.tags
    assert not found.actions
    assert "&lt;img src=x onerror=alert(1)&gt;.h5" in page


@pytest.mark.parametrize("name", ["a b", "q'u\"o\\t", "ü 名前", "w?x=1#y", "p%41", "$(x);\n`y`"])
def test_results_stay_in_the_output_folder(tmp_path, name, store_file):
    output = OutputFolder(tmp_path / name)
    output.prepare()
    output.database.write_bytes(store_file)
    target = open_target(output.default_tracking_uri, "experiment", "study", output.artifacts)
    StudyRun.open(target, {"name": "x"}).close("FINISHED")
    assert open_study(target.uri, "study").params == {"name": "x"}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [output.database]


file_names = text.filter(
    lambda name: "/" not in name and "\0" not in name and name not in ("", ".", "..")
)


@sample()
@given(
    name=file_names.map(lambda name: name[:60] + ".h5"), scheme=st.sampled_from(["file", "memory"])
)
def test_recordings_arrive_where_they_are_sent(tmp_path_factory, name, scheme):
    root = tmp_path_factory.getbasetemp() / "sent"
    here, there = root / "here", root / "there"
    here.mkdir(parents=True, exist_ok=True)
    path = here / name
    try:
        path.write_bytes(name.encode())
    except (OSError, UnicodeEncodeError):
        return
    output = OutputFolder(locate(f"{scheme}://{there}"))

    def send():
        url, _ = upload(path, output, lambda n_bytes: None)
        assert open_url(url).read() == name.encode()
        again, n_sent = upload(path, output, lambda n_bytes: None)
        assert (again, n_sent) == (url, 0)

    attempt("upload", send)
    path.unlink()
    assert {item.name for item in root.iterdir()} <= {"here", "there"}
    assert not list(here.iterdir())


def test_a_pipe_is_no_recording(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    for path in (tmp_path / "pipe.h5", "/dev/zero"):
        with pytest.raises(DataError, match="got a pipe or a device"):
            read_header(path, needs_labels=False)


def test_an_output_folder_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(StorageError, match="cannot be written: File name too long"):
        OutputFolder(tmp_path / ("x" * 300)).prepare()

"""The journal of a stage gives back what it was told, and what earlier versions kept."""

import json
import pickle
import time

import pytest

from psvae_tune.search.stage_journal import StageJournal, Suggestion, TrialEnd
from psvae_tune.tracking.folders import StudyFolder

# Events as studies have them that began with earlier versions; they must be read for ever.
KEPT = [
    {"event": "request", "stage": None, "study": {}, "sessions": {}},
    {
        "event": "ask",
        "stage": "alpha",
        "trial": "a",
        "params": {"ps_vae.alpha": 5},
        "is_repeat": False,
        "system": {"x": 1},
        "hours": 0.1,
    },
    {
        "event": "rung",
        "stage": "alpha",
        "trial": "a",
        "rung": 5,
        "costs": [0.25, None],
        "hours": 0.2,
    },
    {
        "event": "end",
        "stage": "alpha",
        "trial": "a",
        "outcome": "stopped",
        "reason": "behind",
        "epoch": 5,
        "metrics": {"val/a": 0.5},
        "hours": 0.3,
    },
]


def test_a_journal_of_an_earlier_version_is_read(tmp_path):
    lines = [json.dumps(event) + "\n" for event in KEPT]
    (tmp_path / "journal.jsonl").write_text("".join(lines))
    journal = StageJournal(StudyFolder(tmp_path), "alpha")
    assert journal.trial_ends() == {"a": TrialEnd("alpha", "stopped", "behind", 5, {"val/a": 0.5})}
    assert journal.suggestions() == [Suggestion({"ps_vae.alpha": 5}, "a", False, {"x": 1})]
    assert journal.rungs() == {5: {"a": [0.25, float("inf")]}}
    assert journal.hours() == pytest.approx(0.3, abs=0.01)


def test_a_journal_is_written_as_earlier_versions_did(tmp_path):
    journal = StageJournal(StudyFolder(tmp_path), "alpha")
    journal.note_suggestion(Suggestion({"ps_vae.alpha": 5}, "a", False, {"x": 1}))
    journal.note_rung("a", 5, [0.25, float("inf")])
    journal.note_end("a", "stopped", "behind", 5, {"val/a": 0.5})
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    for line, event in zip(lines, KEPT[1:], strict=True):
        assert json.loads(line) | {"hours": 0} == event | {"hours": 0}


def test_a_trial_that_another_stage_finished_counts_but_one_it_stopped_does_not(tmp_path):
    folder = StudyFolder(tmp_path)
    first, second = StageJournal(folder, "first"), StageJournal(folder, "second")
    first.note_end("a", "finished", "", 3, {})
    first.note_end("b", "stopped", "", 2, {})
    assert set(first.trial_ends()) == {"a", "b"}
    assert set(second.trial_ends()) == {"a"}


def test_rungs_come_back_with_what_is_not_finite(tmp_path):
    record = StageJournal(StudyFolder(tmp_path), "alpha")
    record.note_rung("a", 5, [0.25, float("inf")])
    record.note_rung("b", 5, [0.5, 1.0])
    record.note_rung("a", 15, [0.125, 2.0])
    assert record.rungs() == {
        5: {"a": [0.25, float("inf")], "b": [0.5, 1.0]},
        15: {"a": [0.125, 2.0]},
    }
    assert StageJournal(StudyFolder(tmp_path), "beta").rungs() == {}


def test_hours_go_on_where_a_clock_has_another_beginning(tmp_path, monkeypatch):
    """A client of a cluster sends its record to a node."""
    folder = StudyFolder(tmp_path)
    event = {"event": "rung", "stage": "alpha", "trial": "a", "rung": 1, "costs": []}
    folder.journal.append(event | {"hours": 2.0})
    sent = pickle.dumps(StageJournal(folder, "alpha"))
    here = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: here() - 1e6)
    assert pickle.loads(sent).hours() == pytest.approx(2, abs=0.01)

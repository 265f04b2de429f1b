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


def open_journal(folder, stage="alpha", settings_id="now"):
    return StageJournal(StudyFolder(folder), stage, settings_id)


def test_a_journal_of_an_earlier_version_is_read(tmp_path):
    lines = [json.dumps(event) + "\n" for event in KEPT]
    (tmp_path / "journal.jsonl").write_text("".join(lines))
    journal = open_journal(tmp_path)
    assert journal.trial_ends() == {"a": TrialEnd("alpha", "stopped", "behind", 5, {"val/a": 0.5})}
    assert journal.suggestions() == [Suggestion({"ps_vae.alpha": 5}, "a", False, {"x": 1})]
    # Its rungs do not hold what rules compare, and trials that go on enter them anew.
    assert journal.standings() == {}
    assert journal.hours() == pytest.approx(0.3, abs=0.01)


def test_a_journal_comes_back(tmp_path):
    journal = open_journal(tmp_path)
    told = Suggestion({"ps_vae.alpha": 5}, "a", False, {"x": 1})
    standings = [{"val/a": 0.25}, {}, {"b": 1.0}]
    journal.note_suggestion(told)
    for trial_id, rung, standing in zip("aba", (5, 5, 15), standings, strict=True):
        journal.note_standing(trial_id, rung, standing)
    journal.note_end("a", "stopped", "behind", 15, {"val/a": 0.5})
    again = open_journal(tmp_path)
    assert again.suggestions() == [told]
    assert again.standings() == {
        5: {"a": standings[0], "b": standings[1]},
        15: {"a": standings[2]},
    }
    assert again.trial_ends() == {"a": TrialEnd("alpha", "stopped", "behind", 15, {"val/a": 0.5})}
    assert again.count_epochs() == 15


@pytest.mark.parametrize("other", [("beta", "now"), ("alpha", "before")])
def test_of_another_stage_and_of_other_settings_only_what_is_finished_counts(tmp_path, other):
    elsewhere = open_journal(tmp_path, *other)
    elsewhere.note_suggestion(Suggestion({}, "a", False))
    elsewhere.note_standing("a", 1, {})
    elsewhere.note_end("a", "finished", "", 3, {})
    elsewhere.note_end("b", "stopped", "", 2, {})
    elsewhere.note_end("c", "failed", "", 2, {})
    journal = open_journal(tmp_path)
    assert set(journal.trial_ends()) == {"a"}
    assert journal.standings() == {}
    assert journal.suggestions() == []
    assert journal.count_epochs() == 0


def test_hours_under_other_settings_do_not_count(tmp_path):
    folder = StudyFolder(tmp_path)
    event = {"event": "ask", "stage": "alpha", "trial": "a", "settings": "before", "hours": 2.0}
    folder.journal.append(event)
    assert open_journal(tmp_path).hours() == pytest.approx(0, abs=0.01)
    assert open_journal(tmp_path, settings_id="before").hours() == pytest.approx(2, abs=0.01)


def test_hours_go_on_where_a_clock_has_another_beginning(tmp_path, monkeypatch):
    """A client of a cluster sends its record to a node."""
    StudyFolder(tmp_path).journal.append({"event": "ask", "stage": "alpha", "hours": 2.0})
    sent = pickle.dumps(open_journal(tmp_path))
    here = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: here() - 1e6)
    assert pickle.loads(sent).hours() == pytest.approx(2, abs=0.01)

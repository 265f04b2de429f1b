"""Journals, in a file and behind a URL: what is appended is there, in order, and once."""

import pickle
import uuid

import pytest
from upath import UPath

from psvae_tune.errors import StorageError
from psvae_tune.tracking.journal import open_journal


@pytest.fixture(params=["file", "memory"])
def folder(request, tmp_path):
    """Return where a study would lie, on disk or behind a URL."""
    return tmp_path / "study" if request.param == "file" else remote()


def remote() -> UPath:
    return UPath(f"memory://{uuid.uuid4()}/study", use_listings_cache=False)


def test_events_are_read_as_they_were_appended(folder):
    journal = open_journal(folder)
    assert list(journal.events()) == []
    events = [{"event": "end", "name": "ümlaut\n'quote'"}, {"event": "rung", "costs": [0.1, None]}]
    for event in events:
        journal.append(event)
    assert list(journal.events()) == events
    assert list(open_journal(folder).events()) == events


def test_what_another_process_appends_is_seen(folder):
    reader, writer = open_journal(folder), open_journal(folder)
    for number in range(3):
        writer.append({"number": number})
        assert [event["number"] for event in reader.events()] == list(range(number + 1))


def test_a_journal_survives_a_copy_to_another_process(folder):
    journal = open_journal(folder)
    journal.append({"number": 0})
    copy = pickle.loads(pickle.dumps(journal))
    copy.append({"number": 1})
    assert [event["number"] for event in journal.events()] == [0, 1]


def test_copies_that_come_to_a_process_one_by_one_do_not_take_each_other_for_strangers(folder):
    journal = open_journal(folder)
    journal.append({"number": 0})
    first, second = (pickle.loads(pickle.dumps(journal)) for _ in range(2))
    for number in (1, 2, 3, 4):
        (first if number % 2 else second).append({"number": number})
    assert [event["number"] for event in journal.events()] == [0, 1, 2, 3, 4]


def test_a_second_process_takes_a_remote_study_over():
    folder = remote()
    first, second = open_journal(folder), open_journal(folder)
    first.append({"number": 0})
    second.append({"number": 1})
    with pytest.raises(StorageError, match="being run by another process"):
        first.append({"number": 2})
    second.append({"number": 3})
    assert [event["number"] for event in open_journal(folder).events()] == [0, 1, 3]


def test_more_events_than_one_listing_are_in_order():
    folder = remote()
    journal = open_journal(folder)
    for number in range(120):
        journal.append({"number": number})
    assert [event["number"] for event in open_journal(folder).events()] == list(range(120))

"""Pairs of trials are judged without their names, over real requests, and the answers are kept."""

import http.client
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing, suppress
from itertools import combinations

import pytest

from psvae_tune.data.demo import write_demo
from psvae_tune.errors import StudyError
from psvae_tune.results.choices import override
from psvae_tune.results.judge_server import JudgeServer
from psvae_tune.results.judgements import (
    Judgement,
    count_wins,
    draw_pairs,
    measure_agreement,
    read_judgements,
)
from psvae_tune.results.logged_study import open_study
from psvae_tune.results.study_result import StudyResult
from tests.support.logged_studies import call, log_study, with_space

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    write_demo(folder / "demo.h5", n_clips=10, clip_length=8, size=16)
    raw = with_space({"ps_vae.alpha": {"grid_search": [1, 10, 100]}})
    logged = log_study(folder, folder / "demo.h5", "study", raw)
    front = {trial.run_id for trial in logged.front()}
    behind = [trial for trial in logged.finished if trial.run_id not in front]
    # The page shows the front and the choice, so that there are two trials at least.
    return override(logged, behind[0], "somebody", "") if behind else logged


@pytest.fixture
def serve(study):
    """Return a function that starts a server, and ends each with the test."""
    started = []

    def start(rater):
        server = JudgeServer(open_study(study.target.uri, "study"), rater)
        found = {}
        thread = threading.Thread(target=lambda: found.update(study=server.serve()), daemon=True)
        thread.start()
        started.append((server, thread))
        return server, thread, found

    yield start
    for server, thread in started:
        server._is_over = True
        with suppress(OSError):  # it may have stopped listening
            get(server.url)
        thread.join(10)


def get(url, form=None):
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data, timeout=30) as answer:
        return answer.read().decode()


def fields_of(page):
    """Return the hidden fields of the form of a page."""
    parts = page.split('type="hidden" name="')[1:]
    return {part.partition('"')[0]: part.split('value="')[1].partition('"')[0] for part in parts}


def said(by, left, right, better):
    return Judgement("now", by, left, right, better)


def test_each_person_gets_every_pair_once_on_sides_and_in_an_order_of_her_own(study):
    trials = list(study.finished)
    pairs = {rater: draw_pairs(study, trials, rater) for rater in map(str, range(20))}
    everything = {frozenset(t.run_id for t in pair) for pair in combinations(trials, 2)}
    for found in pairs.values():
        assert len(found) == len(everything)
        assert {frozenset(t.run_id for t in pair) for pair in found} == everything
    orders = {tuple((a.run_id, b.run_id) for a, b in found) for found in pairs.values()}
    assert len(orders) > 10
    assert draw_pairs(study, trials, "0") == pairs["0"]
    assert 0 < sum(found[0][0].run_id < found[0][1].run_id for found in pairs.values()) < 20


def test_wins_and_agreement_are_those_counted_by_hand():
    anna = [said("anna", "a", "b", "left"), said("anna", "a", "c", "left"),
            said("anna", "b", "c", "neither")]  # fmt: skip
    ben = [said("ben", "b", "a", "right"), said("ben", "c", "a", "left"),
           said("ben", "c", "b", "neither"), said("ben", "a", "d", "left")]  # fmt: skip
    won = count_wins(anna)
    assert won == {"a": 1.0, "b": 0.25, "c": 0.25}
    (found,) = measure_agreement(anna + ben)
    assert found.raters == ("anna", "ben")
    assert found.n_pairs == 3
    assert found.share == pytest.approx(2 / 3)  # on a, b and on b, c, whatever the sides
    # By chance: anna says 0 in 2 of 3 and neither in 1; ben 0, 1 and neither once each.
    by_chance = (2 * 1 + 0 * 1 + 1 * 1) / 9
    assert found.kappa == pytest.approx((2 / 3 - by_chance) / (1 - by_chance))
    assert measure_agreement([anna[0], ben[0]])[0].kappa is None
    assert measure_agreement(anna) == []


def test_who_judges_a_pair_again_is_counted_once():
    again = [said("anna", "a", "b", "left"), said("anna", "b", "a", "left")]
    assert count_wins(again) == {"a": 0.0, "b": 1.0}


@pytest.mark.parametrize("length", ["-1", "many", "", "2e3"])
def test_a_form_of_no_length_is_refused_and_the_page_goes_on(study, serve, length):
    server, *_ = serve("carl")
    place = urllib.parse.urlsplit(server.url)
    with closing(http.client.HTTPConnection(place.netloc, timeout=30)) as connection:
        connection.request("POST", f"{place.path}judgement", headers={"Content-Length": length})
        assert connection.getresponse().status == 400
    assert "judged by carl" in get(server.url)


def test_a_connection_that_asks_nothing_does_not_hold_up_the_page(study, serve):
    server, *_ = serve("dora")
    place = urllib.parse.urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port)):
        assert "judged by dora" in get(server.url)


def test_a_study_is_judged_and_chosen_over_requests(study, serve):
    server, thread, found = serve("anna")
    n_pairs = len(draw_pairs(study, server._trials, "anna"))
    assert n_pairs >= 1
    for left in range(n_pairs, 0, -1):
        page = get(server.url)
        assert f"{left} pair" in page
        for trial in study.trials:  # nothing on the page tells which they are
            assert trial.run_id not in page
            assert study.label(trial) not in page
        get(
            server.url + "judgement", {**fields_of(page), "better": "left", "reason": "<b>one</b>"}
        )
    page = get(server.url)
    assert "All pairs are judged" in page
    kept = read_judgements(study)
    assert [item.by for item in kept] == ["anna"] * n_pairs
    assert {item.reason for item in kept} == {"<b>one</b>"}
    taken = server._trials[0].run_id
    assert "is chosen" in get(server.url + "choice", {"run": taken})
    thread.join(10)
    assert not thread.is_alive()
    chosen = found["study"].chosen
    assert chosen.run_id == taken
    share = f"{count_wins(kept)[taken]:.0%}"
    reason = f"judged blind by 1: better in {share} of its pairs"
    assert found["study"].choices[-1]["reason"] == reason
    table = StudyResult(study).judgements()
    assert set(table["left"]) | set(table["right"]) <= {study.label(t) for t in study.trials}


@pytest.mark.parametrize(
    ("place", "form", "status"),
    [
        ("../", None, 404),
        ("elsewhere", {"better": "left"}, 404),
        ("judgement", {}, 400),
        ("judgement", {"left": "0", "right": "99", "better": "left"}, 400),
        ("judgement", {"left": "x", "right": "1", "better": "left"}, 400),
        ("judgement", {"left": "0", "right": "1", "better": "both"}, 500),
        ("choice", {"run": "none"}, 400),
    ],
)
def test_what_is_no_answer_of_the_page_is_refused(study, serve, place, form, status):
    before = read_judgements(study)
    server, *_ = serve("ben")
    with pytest.raises(urllib.error.HTTPError) as error:
        get(urllib.parse.urljoin(server.url, place), form)
    with error.value as answer:
        assert answer.code == status
    assert read_judgements(study) == before


def test_a_front_of_one_trial_has_nothing_to_judge(tmp_path):
    write_demo(tmp_path / "demo.h5", n_clips=10, clip_length=8, size=16)
    one = log_study(
        tmp_path, tmp_path / "demo.h5", "one", with_space({"ps_vae.alpha": {"grid_search": [10]}})
    )
    with pytest.raises(StudyError, match="nothing to compare: 1 trial"):
        JudgeServer(one, "anna")
    result = call("choose", "one", "--blind", "--output", tmp_path)
    assert result.exit_code == 1
    assert "nothing to compare" in result.output


@pytest.mark.parametrize("arguments", [[], ["--blind", "--trial", "alpha=1"]])
def test_choose_takes_a_trial_or_judges_blind(study, arguments):
    result = call("choose", "study", *arguments)
    assert result.exit_code == 2
    assert "either --trial or --blind" in result.output

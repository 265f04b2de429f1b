"""A page on this machine on which a person judges the trials of a study without their settings."""

import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

from psvae_tune.errors import PsvaeTuneError, StudyError
from psvae_tune.results.choices import override
from psvae_tune.results.judgements import (
    add_judgement,
    count_wins,
    draw_pairs,
    measure_agreement,
    read_judgements,
)
from psvae_tune.results.logged_study import LoggedStudy
from psvae_tune.results.report import front_strips, open_template
from psvae_tune.results.report_data import format_scores

MAX_FORM = 10_000
"""Bytes of a form; more is refused."""
PATIENCE_S = 2.0
"""Seconds to wait for a request: browsers open connections that they may never use."""


class JudgeServer:
    """Shows pairs of trials, keeps what a person says of them, and at the end the choice."""

    def __init__(self, study: LoggedStudy, rater: str) -> None:
        """Listen on a free port of the loopback address.

        Parameters
        ----------
        study
            Study that has ended.
        rater
            Name of the person who judges.

        Raises
        ------
        StudyError
            If fewer than two trials have pictures to compare.
        """
        self.study, self.rater = study, rater
        self._strips = {item["run_id"]: item for item in front_strips(study)}
        trials = {trial.run_id: trial for trial in study.finished}
        self._trials = [trials[run_id] for run_id in self._strips]  # the chosen one first
        if len(self._trials) < 2:
            raise StudyError(
                f"study {study.name!r}",
                f"has nothing to compare: {len(self._trials)} trial of its front has pictures",
            )
        # Only who was told the address may answer: other pages in the browser may not.
        self._path = f"/{secrets.token_urlsafe(16)}/"
        self._is_over = False
        self._template = open_template("judge.html")
        self._server = HTTPServer(("127.0.0.1", 0), self._make_handler())

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self._server.server_port}{self._path}"

    def serve(self) -> LoggedStudy:
        """Answer until a trial is chosen; return the study as it is then.

        Side effects: writes judgements and the choice to MLflow.
        """
        with self._server:
            while not self._is_over:
                self._server.handle_request()
        return self.study

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        judge = self

        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE_S

            def do_GET(self) -> None:
                self._send(*judge.answer(self.path))

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "")
                n_bytes = min(int(length), MAX_FORM) if length.isdecimal() else 0
                form = parse_qs(self.rfile.read(n_bytes).decode(errors="replace"))
                fields = {name: values[0] for name, values in form.items()}
                self._send(*judge.answer(self.path, fields))

            def _send(self, status: HTTPStatus, text: str) -> None:
                self.send_response(status)
                if status == HTTPStatus.SEE_OTHER:
                    self.send_header("Location", text)
                    text = ""
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                """Say nothing: the address holds a secret."""

        return Handler

    def answer(self, path: str, form: dict[str, str] | None = None) -> tuple[HTTPStatus, str]:
        """Return the status of a request and a page, or where to go next."""
        if not path.startswith(self._path):
            return HTTPStatus.NOT_FOUND, "There is no such page."
        what = path.removeprefix(self._path)
        try:
            if form is None:
                return HTTPStatus.OK, self._page()
            if what == "judgement":
                self._judge(form)
                return HTTPStatus.SEE_OTHER, self._path
            if what == "choice":
                return HTTPStatus.OK, self._choose(form)
        except (LookupError, ValueError, StopIteration):
            return HTTPStatus.BAD_REQUEST, "This form is not one of the page."
        except PsvaeTuneError as error:
            return HTTPStatus.INTERNAL_SERVER_ERROR, str(error)
        return HTTPStatus.NOT_FOUND, "There is no such page."

    def _page(self) -> str:
        pairs = draw_pairs(self.study, self._trials, self.rater)
        shown = pairs[0] if pairs else ()
        judgements = read_judgements(self.study)
        won = count_wins(judgements)
        ranking = [
            {
                "run_id": trial.run_id,
                "name": self.study.label(trial),
                "is_chosen": trial.is_selected,
                "won": won[trial.run_id],
                "scores": format_scores(self.study, trial),
            }
            for trial in self._trials
            if trial.run_id in won
        ]
        return self._template.render(
            study=self.study,
            rater=self.rater,
            pair=[self._strips[trial.run_id] for trial in shown],
            number=[self._trials.index(trial) for trial in shown],
            n_left=len(pairs),
            ranking=sorted(ranking, key=lambda row: -row["won"]),
            agreements=measure_agreement(judgements),
        )

    def _judge(self, form: dict[str, str]) -> None:
        left, right = (self._trials[int(form[side])] for side in ("left", "right"))
        better, reason = form["better"], form.get("reason", "")
        add_judgement(self.study, self.rater, (left, right), better, reason)

    def _choose(self, form: dict[str, str]) -> str:
        trial = next(trial for trial in self._trials if trial.run_id == form["run"])
        judgements = read_judgements(self.study)
        n_people = len({item.by for item in judgements})
        won = count_wins(judgements)[trial.run_id]
        reason = f"judged blind by {n_people}: better in {won:.0%} of its pairs"
        self.study = override(self.study, trial, self.rater, reason)
        self._is_over = True
        return f"{self.study.label(trial)} is chosen. You may close this page."

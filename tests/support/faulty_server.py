"""MLflow's server, in a process of its own, with faults done to requests."""

import io
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from tests.support.edge import Fault

AWAY = 8
"""Number of requests that a server which is away does not answer."""
LATE_S = 11.0
"""Seconds that an answer is late: more than a client waits."""
PAGE = b"<html><body><h1>Sign in to the guest network</h1></body></html>"

_sleep = time.sleep
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class FaultyServer:
    """Passes requests on to MLflow, and does faults to those with given numbers."""

    def __init__(
        self, application: Application, faults: Sequence[Fault], note: Callable[[Fault], None]
    ) -> None:
        self.application, self.note = application, note
        self.faults = {fault.event: fault for fault in faults}
        self.n_requests = 0
        self.away_until = 0
        self.lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        with self.lock:
            self.n_requests += 1
            fault = self.faults.pop(self.n_requests, None)
            is_away = self.n_requests < self.away_until
        if is_away:
            _hang_up(environ)
        if fault is None:
            return self.application(environ, respond)
        self.note(fault)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return FAULTS[fault.kind](self, environ, respond, body)

    def handle(self, environ: dict[str, Any], body: bytes) -> tuple[list[Any], bytes]:
        """Have MLflow do what a request asks; return the start of the answer and its content."""
        start: list[Any] = []
        copy = {**environ, "wsgi.input": io.BytesIO(body)}
        # What it keeps of a request for itself belongs to one answer.
        copy = {name: value for name, value in copy.items() if not name.startswith("werkzeug.re")}
        answer = self.application(copy, lambda *given: start.extend(given))
        content = b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        return start, content


def _hang_up(environ: dict[str, Any]) -> None:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError


def _late(server: FaultyServer, environ: Any, respond: Any, body: bytes) -> Iterable[bytes]:
    start, content = server.handle(environ, body)
    _sleep(LATE_S)
    respond(*start[:2])
    return [content]


def _twice(server: FaultyServer, environ: Any, respond: Any, body: bytes) -> Iterable[bytes]:
    server.handle(environ, body)
    start, content = server.handle(environ, body)
    respond(*start[:2])
    return [content]


def _lost(server: FaultyServer, environ: Any, respond: Any, body: bytes) -> Iterable[bytes]:
    server.handle(environ, body)
    _hang_up(environ)
    return []


def _cut(server: FaultyServer, environ: Any, respond: Any, body: bytes) -> Iterable[bytes]:
    start, content = server.handle(environ, body)
    respond(*start[:2])
    return [content[: len(content) // 2]]


def _away(server: FaultyServer, environ: Any, respond: Any, body: bytes) -> Iterable[bytes]:
    server.away_until = server.n_requests + AWAY
    _hang_up(environ)
    return []


def _answer(status: str, kind: str, content: bytes, is_done: bool) -> Any:
    def answer(server: FaultyServer, environ: Any, respond: Any, body: bytes) -> Iterable[bytes]:
        if is_done:
            server.handle(environ, body)
        respond(status, [("Content-Type", kind), ("Content-Length", str(len(content)))])
        return [content]

    return answer


FAULTS: dict[str, Any] = {
    "answer late": _late,
    "request twice": _twice,
    "answer lost": _lost,
    "answer cut short": _cut,
    "server away": _away,
    "500": _answer("500 Internal Server Error", "text/plain", b"out of cheese", False),
    "500 when done": _answer("500 Internal Server Error", "text/plain", b"out of cheese", True),
    "HTML": _answer("200 OK", "text/html", PAGE, False),
    "HTML when done": _answer("200 OK", "text/html", PAGE, True),
    "HTML 502": _answer("502 Bad Gateway", "text/html", PAGE, False),
}


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


@contextmanager
def serve(folder: Path, faults: Sequence[Fault], note: Callable[[Fault], None]) -> Iterator[str]:
    """Serve the store in a folder, from a process of its own; yield the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    if (pid := os.fork()) == 0:
        try:
            _serve(folder, listener, port, faults, note)
        finally:
            os._exit(1)
    listener.close()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _serve(
    folder: Path,
    listener: socket.socket,
    port: int,
    faults: Sequence[Fault],
    note: Callable[[Fault], None],
) -> None:
    from mlflow import server

    os.environ |= {
        server.BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{folder / 'mlflow.db'}",
        server.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        server.ARTIFACTS_DESTINATION_ENV_VAR: str(folder / "artifacts"),
        server.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    theirs = [fault for fault in faults if fault.process == "server"]
    make_server(
        "127.0.0.1",
        port,
        FaultyServer(server.app, theirs, note),
        threaded=True,
        request_handler=_Quiet,
        fd=listener.fileno(),
    ).serve_forever()

import time

import audit
import hostile
import pytest
from test_study_end_to_end import command, finish


@pytest.fixture(scope="session")
def reader():
    """Return a process that reads files; see `hostile.Reader`."""
    process = hostile.Reader()
    yield process
    process.close()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Return what the study that is disturbed elsewhere comes to when it is left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    call, begin = audit.make_study(folder), time.monotonic()
    finish(command(folder, *call))
    seconds = time.monotonic() - begin
    return audit.Outcome.read(folder, audit.Store.beside(folder), seconds)


def pytest_terminal_summary(terminalreporter):
    """Print the table of faults, and say how many inputs were tried and what came of them."""
    for line in audit.to_markdown() if audit.table else ():
        terminalreporter.write_line(line)
    for parser, outcomes in sorted(hostile.tried.items()):
        counts = ", ".join(f"{n} {what}" for what, n in sorted(outcomes.items()))
        terminalreporter.write_line(f"hostile input: {parser}: {outcomes.total()} tried, {counts}")

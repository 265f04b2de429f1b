import hostile
import pytest


@pytest.fixture(scope="session")
def reader():
    """Return a process that reads files; see `hostile.Reader`."""
    process = hostile.Reader()
    yield process
    process.close()


def pytest_terminal_summary(terminalreporter):
    """Say how many inputs were tried, and what came of them."""
    for parser, outcomes in sorted(hostile.tried.items()):
        counts = ", ".join(f"{n} {what}" for what, n in sorted(outcomes.items()))
        terminalreporter.write_line(f"hostile input: {parser}: {outcomes.total()} tried, {counts}")

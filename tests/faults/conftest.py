import hostile
import pytest


@pytest.fixture(scope="session")
def reader():
    """Return a process that reads files; see `hostile.Reader`."""
    process = hostile.Reader()
    yield process
    process.close()


def pytest_terminal_summary(terminalreporter):
    """Print the table of what was tried, and what came of it."""
    if hostile.tried:
        terminalreporter.section("damaged and hostile input")
        for line in hostile.describe_tried():
            terminalreporter.write_line(line)

"""What the libraries and this one say beside results, wherever it goes: never with a password."""

import logging

from psvae_tune.errors import hide_passwords


class _WithoutPasswords(logging.Formatter):
    """Libraries put whole URLs into their exceptions, and exceptions go into logs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback if there is one."""
        return hide_passwords(super().format(record))


def start_logs(level: int = logging.WARNING) -> None:
    """Have this process log to stderr, what is its own from ``level`` on.

    Side effects: sets up the root logger, unless that is done.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_WithoutPasswords("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("psvae_tune").setLevel(level)

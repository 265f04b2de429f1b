"""Passwords are masked in everything that is shown, kept or logged."""

import logging
import re

# In a URL: who logs in, up to the last @ that can belong to it, and parameters that are secret.
_LOGIN = re.compile(r"(?<=://)(?:[^\s/@:]*:[^\s\"']*|[^\s/]*)@|(?<=:/)[^\s/@:]+:[^\s/]*@")
_SECRET = re.compile(
    r"([?&][^=&\s]*(?:pass|pwd|token|secret|signature|credential)[^=&\s]*=)[^&\s]+", re.I
)


def hide_passwords(text: str) -> str:
    """Return a text fit to be shown or kept: without the user and password of any URL in it."""
    return _SECRET.sub(r"\1***", _LOGIN.sub("***@", text))


def holds_password(text: str) -> bool:
    """Return whether a text has a user, a password or another secret in a URL."""
    return hide_passwords(text) != text


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

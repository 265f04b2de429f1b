"""Mask passwords in every text that is shown, kept or logged."""

import logging
import re

# The user and password of a URL, up to the last @ that can belong to them, and its secret
# parameters.
_LOGIN = re.compile(r"(?<=://)(?:[^\s/@:]*:[^\s\"']*|[^\s/]*)@|(?<=:/)[^\s/@:]+:[^\s/]*@")
_SECRET = re.compile(
    r"([?&][^=&\s]*(?:pass|pwd|token|secret|signature|credential)[^=&\s]*=)[^&\s]+", re.I
)


def hide_passwords(text: str) -> str:
    """Return a text with the user, password and secret parameters of every URL masked."""
    return _SECRET.sub(r"\1***", _LOGIN.sub("***@", text))


def holds_password(text: str) -> bool:
    """Return whether a URL in a text has a user, a password or a secret parameter."""
    return hide_passwords(text) != text


class _WithoutPasswords(logging.Formatter):
    """Masks passwords in log lines, because libraries put whole URLs into their exceptions."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback if there is one."""
        return hide_passwords(super().format(record))


def start_logs(level: int = logging.WARNING) -> None:
    """Log to stderr: this project from ``level`` on, libraries from warnings on.

    Side effects: sets up the root logger, unless it has handlers.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_WithoutPasswords("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("psvae_tune").setLevel(level)

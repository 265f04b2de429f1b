"""Define frozen settings, and word the errors of invalid ones for a user."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from psvae_tune.errors import nearest
from psvae_tune.redaction import hide_passwords


class Settings(BaseModel):
    """Frozen settings that refuse names they do not know, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def setting_names(settings: type[BaseModel]) -> list[str]:
    """Return the published names of the fields of a settings class."""
    return [field.alias or name for name, field in settings.model_fields.items()]


Parsed = TypeVar("Parsed", bound=BaseModel)


def parse_settings(
    settings: type[Parsed], raw: Any, place: str, problems: list[str]
) -> Parsed | None:
    """Return validated settings, or None if there are problems.

    Parameters
    ----------
    settings
        Class of the settings.
    raw
        Values by published names, as they stand in a file.
    place
        Dotted place of ``raw`` in the file, to be named in each problem; may be empty.
    problems
        Side effects: gets a line for each problem, ``place: what is wrong, got value``.
    """
    try:
        return settings.model_validate(raw)
    except ValidationError as error:
        problems += [_describe(item, settings, place) for item in error.errors()]
        return None


def _describe(item: ErrorDetails, settings: type[BaseModel], place: str) -> str:
    where = ".".join(str(part) for part in (place, *item["loc"]) if part != "")
    value = item["input"]
    if item["type"] == "extra_forbidden":
        name = str(item["loc"][-1])
        near = nearest(name, setting_names(settings)) if len(item["loc"]) == 1 else None
        return f"{where}: not a known setting" + (f"; did you mean `{near}`?" if near else "")
    if item["type"] == "missing":
        return f"{where}: is required"
    message = item["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    text = hide_passwords(repr(value))  # before shortening, which could cut a URL in two
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return f"{where}: {message}, got {short}"

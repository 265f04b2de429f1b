"""Hyperparameter search for semi-supervised behavioural-video autoencoders.

::

    import psvae_tune as pt

    study = pt.load_study("search_spaces/ps_vae.yaml", data=["mouse.h5"])
    result = pt.run_study(study)
    latents = result.best_model().transform("mouse.h5")

Names are loaded when they are first used, so that the import itself takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psvae_tune.api.models import FitResult, fit, load_model
    from psvae_tune.api.recordings import import_session, read_session
    from psvae_tune.api.studies import load_study, open_study, recommend_study, run_study
    from psvae_tune.errors import PsvaeTuneError
    from psvae_tune.results.fitted_model import FittedModel
    from psvae_tune.results.prediction_files import write_predictions
    from psvae_tune.results.sequence_file import write_sequences
    from psvae_tune.results.study_result import StudyResult

__version__ = "0.1.0"

_MODULES = {
    "FitResult": "api.models",
    "FittedModel": "results.fitted_model",
    "PsvaeTuneError": "errors",
    "StudyResult": "results.study_result",
    "fit": "api.models",
    "import_session": "api.recordings",
    "load_model": "api.models",
    "load_study": "api.studies",
    "open_study": "api.studies",
    "read_session": "api.recordings",
    "recommend_study": "api.studies",
    "run_study": "api.studies",
    "write_predictions": "results.prediction_files",
    "write_sequences": "results.sequence_file",
}
"""The module of each public name."""

__all__ = [
    "FitResult",
    "FittedModel",
    "PsvaeTuneError",
    "StudyResult",
    "fit",
    "import_session",
    "load_model",
    "load_study",
    "open_study",
    "read_session",
    "recommend_study",
    "run_study",
    "write_predictions",
    "write_sequences",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])

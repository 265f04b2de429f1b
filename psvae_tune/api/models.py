"""Models: fitted in this process, or loaded.

Every function imports what it needs when it is called, so that `import psvae_tune` stays quick.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psvae_tune.api.arguments import names_nearest_argument
from psvae_tune.api.recordings import read_session
from psvae_tune.api.studies import DEFAULT_OUTPUT
from psvae_tune.errors import UserError

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from psvae_tune.data.session import Session
    from psvae_tune.results.fitted_model import FittedModel
    from psvae_tune.training.fit import EpochReport


@dataclass(frozen=True, slots=True)
class FitResult:
    """One fitted configuration.

    Parameters
    ----------
    model
        The model at its best epoch.
    history
        Metrics of every epoch, one a row; the index is the epoch, counted from 1. Validation
        metrics are NaN in epochs without validation.
    metrics
        Metrics of the model on the validation and the test split, ``val/…`` and ``test/…``.

    Examples
    --------
    >>> found = pt.fit("mouse.h5", config)  # doctest: +SKIP
    >>> found.history["val/frame_mse"].plot()  # doctest: +SKIP
    >>> found.model.transform("mouse.h5").shape  # doctest: +SKIP
    (2000, 6)
    """

    model: "FittedModel"
    history: "DataFrame"
    metrics: Mapping[str, float]


@names_nearest_argument
def fit(
    recordings: "Session | Path | str | Sequence[Session | Path | str]",
    config: Mapping[str, Any],
    *,
    device: "torch.device | str" = "auto",
    callback: "Callable[[EpochReport], object] | None" = None,
) -> FitResult:
    """Fit one configuration in this process, without Ray and without MLflow.

    Parameters
    ----------
    recordings
        One recording or several: sessions from `read_session`, or what `read_session` takes.
    config
        Hyperparameters under their published names, in one flat mapping: ``model_class``, its
        weights such as ``ps_vae.alpha``, and settings of the training such as ``max_n_epochs``
        and of the data such as ``trial_splits``. ``n_ae_latents`` may read ``n_labels + 2``.
    device
        Device to train on; ``auto`` takes a GPU if there is one.
    callback
        Called after every epoch with its number and its metrics.

    Returns
    -------
    FitResult
        The model, its history and its metrics. The same numbers as those of a trial of a study
        with these settings.

    Raises
    ------
    ConfigError
        If a hyperparameter is unknown or has a wrong value.
    DataError
        If a recording cannot be used.
    DivergedError
        If a term of the loss is no longer finite.

    Examples
    --------
    >>> import psvae_tune as pt
    >>> found = pt.fit(
    ...     pt.read_session("demo"),
    ...     {
    ...         "model_class": "cond-ae",
    ...         "n_ae_latents": 2,
    ...         "max_n_epochs": 1,
    ...         "ae_arch_json": {
    ...             "ae_encoding_n_channels": [4, 8],
    ...             "ae_encoding_kernel_size": [5, 5],
    ...             "ae_encoding_stride_size": [2, 4],
    ...         },
    ...     },
    ... )
    >>> found.model.transform(pt.read_session("demo").frames[:3]).shape
    (3, 2)
    >>> len(found.history)
    1
    """
    import torch
    from pandas import DataFrame

    from psvae_tune.config.hidden_labels import HIDDEN, find_labels
    from psvae_tune.config.study import resolve_counts
    from psvae_tune.config.training import DataConfig, TrainingConfig
    from psvae_tune.config.trial import parse_trial_config
    from psvae_tune.data.frame_capacity import (
        measure_sessions,
        needs_decoder_variance,
        set_decoder_variance,
    )
    from psvae_tune.data.label_scaler import LabelScaler
    from psvae_tune.data.session import Session
    from psvae_tune.models.model_file import SavedModel
    from psvae_tune.results.fitted_model import FittedModel
    from psvae_tune.training.batches import prepare_data
    from psvae_tune.training.final_metrics import final_metrics
    from psvae_tune.training.fit import best_model, start
    from psvae_tune.training.fit import fit as train

    items = [recordings] if isinstance(recordings, Session | Path | str) else recordings
    sessions = [item if isinstance(item, Session) else read_session(item) for item in items]
    if not sessions:
        raise UserError("fit()", "needs at least one recording, got none")
    raw: dict[str, dict[str, Any]] = {"model": {}, "training": {}, "data": {}}
    for key, value in config.items():
        in_training, in_data = key in TrainingConfig.model_fields, key in DataConfig.model_fields
        raw["training" if in_training else "data" if in_data else "model"][key] = value
    names = sessions[0].header.label_names
    raw["data"][HIDDEN] = find_labels(raw["data"].get(HIDDEN, []), names, HIDDEN)
    raw["data"]["sessions"] = [session.header.path for session in sessions]
    settings = parse_trial_config(resolve_counts(raw, sessions[0].header.n_labels), "config")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if needs_decoder_variance(settings):
        capacity = measure_sessions(sessions, settings)
        settings = set_decoder_variance(settings, capacity, sessions[0].header.n_labels)
    data = prepare_data(sessions, settings)
    state = start(settings, data, device)
    rows = {}
    for report in train(state, data, settings):
        rows[report.epoch] = report.metrics
        if callback is not None:
            callback(report)
    model = best_model(state)
    scaler = data.label_scaler or LabelScaler.identity(0)
    saved = SavedModel(model, scaler, data.describe())
    history = DataFrame.from_dict(rows, orient="index").rename_axis("epoch")
    return FitResult(FittedModel(saved), history, final_metrics(model, data, device))


@names_nearest_argument
def load_model(
    model: Path | str,
    *,
    device: "torch.device | str" = "cpu",
    output: Path | str = DEFAULT_OUTPUT,
    tracking_uri: str | None = None,
) -> "FittedModel":
    """Load a fitted model.

    Parameters
    ----------
    model
        A ``model.pt``, a folder made by ``psvae-tune export``, or ``models:/NAME@champion``.
    device
        Device that the model is put on.
    output, tracking_uri
        Where the model registry is, as in `open_study`.

    Returns
    -------
    FittedModel
        The model, in evaluation mode.

    Raises
    ------
    StorageError
        If there is no such file, or it holds no model.
    TrackingError
        If the registry does not answer, or does not know the model.

    Examples
    --------
    >>> import psvae_tune as pt
    >>> model = pt.load_model("models:/mouse@champion")  # doctest: +SKIP
    >>> model.transform("new_video.mp4").shape  # doctest: +SKIP
    (2000, 6)
    """
    from psvae_tune.results.find_study import find_model

    return find_model(str(model), Path(output), tracking_uri, device)

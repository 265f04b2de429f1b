"""The series of NWB (Neurodata Without Borders) that hold latents and predicted labels.

::

    processing/behavior/
        psvae_latents      TimeSeries, (frame, latent); its comments hold the model as JSON
        psvae_frame_index  TimeSeries, (frame,)
        psvae_pose         PoseEstimation of ndx-pose: labels NAME_x and NAME_y are the point NAME,
                           with _ for / and :, which no name may have there
        psvae_labels       TimeSeries, (frame, label): the other labels
        Skeletons/psvae_skeleton
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from psvae_tune import __version__
from psvae_tune.results.predictions import Predictions

if TYPE_CHECKING:
    from pynwb import NWBFile, ProcessingModule, TimeSeries

MODULE = "behavior"
LATENTS, FRAME_INDEX, POSE, LABELS = (
    f"psvae_{name}" for name in ("latents", "frame_index", "pose", "labels")
)
SKELETON = "Skeletons/psvae_skeleton"
# Decimals of a second to which equal steps in time are the same step, for `nwbinspector`, too.
_STEP_DECIMALS = 9
_REFERENCE = (
    "(0, 0) is the top left corner of the frames that the model was fitted to: the video, cut and "
    "scaled as it was imported"
)


def add_series(predictions: Predictions, times: NDArray[np.float64], file: "NWBFile") -> None:
    """Add all series to an NWB file in memory.

    Parameters
    ----------
    predictions
        Latents and labels.
    times
        (frame,), seconds since the start of the session, ascending. Equal steps become a rate, as
        the format asks for.
    file
        File of pynwb, with none of the series.
    """
    from pynwb import TimeSeries

    if MODULE not in file.processing:
        file.create_processing_module(MODULE, "Processed data of behaviour")
    module = file.processing[MODULE]
    latents = TimeSeries(
        name=LATENTS,
        data=predictions.latents,
        unit="a.u.",
        description=f"Posterior means of psvae_tune: {', '.join(predictions.latent_names)}",
        comments=json.dumps(
            {
                "psvae_tune": __version__,
                "session": predictions.rows.session,
                "columns": predictions.latent_names,
                **predictions.model,
            }
        ),
        **_clock(times),
    )
    module.add(latents)
    clock = _clock(times, latents)
    module.add(
        TimeSeries(
            name=FRAME_INDEX,
            data=predictions.rows.frame_index,
            unit="frame",
            description=f"Index of each frame: {predictions.rows.index_unit}",
            **clock,
        )
    )
    if predictions.labels_hat is not None:
        _add_labels(predictions, predictions.labels_hat, module, clock)


def _clock(times: NDArray[np.float64], first: "TimeSeries | None" = None) -> dict[str, Any]:
    """Return start and rate of even times, and otherwise the times, or the series with them."""
    steps = np.diff(times)
    if len(steps) > 1 and len(set(steps.round(_STEP_DECIMALS))) == 1:
        rate = len(steps) / (times[-1] - times[0])
        return {"starting_time": float(times[0]), "rate": float(rate)}
    return {"timestamps": times if first is None else first}


def _add_labels(
    predictions: Predictions,
    labels_hat: NDArray[np.float32],
    module: "ProcessingModule",
    clock: dict[str, Any],
) -> None:
    """Add predicted labels: points as a pose, and the others as one series."""
    from ndx_pose import PoseEstimation, PoseEstimationSeries, Skeleton, Skeletons
    from pynwb import TimeSeries

    names = predictions.label_names
    points = find_points(names)
    of_points = {column for pair in points.values() for column in pair}
    others = [column for column in range(len(names)) if column not in of_points]
    if others:
        listed = ", ".join(names[column] for column in others)
        module.add(
            TimeSeries(
                name=LABELS,
                data=labels_hat[:, others],
                unit="a.u.",
                description=f"Labels that psvae_tune predicts, in their own units: {listed}",
                **clock,
            )
        )
    if not points:
        return
    if "Skeletons" not in module.data_interfaces:
        module.add(Skeletons(name="Skeletons"))
    series_names = name_series(list(points))
    skeleton = Skeleton(name=SKELETON.rpartition("/")[2], nodes=series_names)
    module["Skeletons"].add_skeletons(skeleton)
    series = [
        PoseEstimationSeries(
            name=series_name,
            data=labels_hat[:, pair],
            unit="pixels",
            reference_frame=_REFERENCE,
            description=f"Place of {name} that psvae_tune predicts from the latents",
            **clock,
        )
        for series_name, (name, pair) in zip(series_names, points.items(), strict=True)
    ]
    model = predictions.model
    module.add(
        PoseEstimation(
            name=POSE,
            pose_estimation_series=series,
            description=f"Labels predicted from `{LATENTS}`, whose comments name the model",
            scorer=str(model.get("run_id") or model.get("model") or "psvae_tune"),
            source_software="psvae_tune",
            source_software_version=__version__,
            skeleton=skeleton,
        )
    )


def name_series(points: Sequence[str]) -> list[str]:
    """Return a name of its own for each point, without the characters that NWB refuses."""
    names: list[str] = []
    for point in points:
        name = point.replace("/", "_").replace(":", "_")
        while name in names:
            name += "_"
        names.append(name)
    return names


def find_points(names: Sequence[str]) -> dict[str, list[int]]:
    """Return the columns of x and y of every point: ``paw`` where ``paw_x`` and ``paw_y`` are."""
    stems = [name.removesuffix("_x") for name in names if name.endswith("_x")]
    return {
        stem: [names.index(f"{stem}_x"), names.index(f"{stem}_y")]
        for stem in stems
        if stem and f"{stem}_y" in names
    }

"""A saved model as MLflow serves it: frames in, latents and labels out.

MLflow finds `_load_pyfunc` by its name when this module is the ``loader_module`` of a model.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from psvae_tune.errors import DataError
from psvae_tune.models.model_file import SavedModel, load_model

N_FRAMES_AT_ONCE = 256


class FramesToLatents:
    """Latents and predicted labels of frames."""

    def __init__(self, saved: SavedModel) -> None:
        self.saved = saved

    def predict(
        self, frames: NDArray[Any], session_index: int = 0
    ) -> dict[str, NDArray[np.float32]]:
        """Encode frames without sampling.

        Parameters
        ----------
        frames
            (frame, channel, height, width); uint8, or floats in [0, 1].
        session_index
            Whose first layer and whose labels' units to use, where sessions have their own.

        Returns
        -------
        dict
            ``latents`` (frame, latent) and, where the model predicts them, ``labels``
            (frame, label) in the user's units.

        Raises
        ------
        DataError
            If the frames are not such frames.
        """
        latents, labels = [], []
        for start in range(0, len(frames), N_FRAMES_AT_ONCE):
            q = self.saved.model.infer(
                in_unit_range(frames[start : start + N_FRAMES_AT_ONCE]),
                session_index=session_index,
            )
            with torch.inference_mode():
                latents.append(self.saved.model.to_partition(q.mean).cpu().numpy())
                labels_hat = self.saved.model.predict_labels(q.mean)
            if labels_hat is not None:
                labels.append(labels_hat.cpu().numpy())
        found = {"latents": np.concatenate(latents)}
        if labels:
            found["labels"] = self.saved.in_units(np.concatenate(labels), session_index)
        return found


def in_unit_range(frames: NDArray[Any]) -> NDArray[np.float32]:
    """Return frames as floats in [0, 1], as a model takes them."""
    if frames.dtype == np.uint8:
        return np.divide(frames, 255, dtype=np.float32)
    if frames.size and not (frames.min() >= 0 and frames.max() <= 1):
        raise DataError(
            "frames",
            f"floats must be in [0, 1], got {frames.min():g} to {frames.max():g}",
            hint="divide by the largest possible pixel, or pass uint8",
        )
    return frames.astype(np.float32)


def _load_pyfunc(data_path: str) -> FramesToLatents:
    """Return the model of a file that `save_model` wrote."""
    return FramesToLatents(load_model(data_path))

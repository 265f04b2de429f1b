"""A saved model as MLflow serves it: frames in, latents and labels out.

MLflow finds `_load_pyfunc` by its name when this module is the ``loader_module`` of a model.
"""

from typing import Any

from numpy.typing import NDArray

from psvae_tune.models.encoding import Floats, encode, iter_batches, split_frames
from psvae_tune.models.model_file import SavedModel, load_model


class FramesToLatents:
    """Latents and predicted labels of frames."""

    def __init__(self, saved: SavedModel) -> None:
        self.saved = saved

    def predict(self, frames: NDArray[Any], session_index: int = 0) -> dict[str, Floats]:
        """Encode frames without sampling.

        Parameters
        ----------
        frames
            (frame, channel, height, width); uint8, or floats in [0, 1].
        session_index
            The session whose first layer and whose label units are used, where sessions of the
            fit have their own.

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
        model = self.saved.model
        seen = encode(model, iter_batches(model, split_frames(frames), session_index))
        found = {"latents": seen.latents}
        if seen.labels_hat is not None:
            found["labels"] = self.saved.label_scaler.inverse(seen.labels_hat, session_index)
        return found


def _load_pyfunc(data_path: str) -> FramesToLatents:
    """Return the model of a file that `save_model` wrote."""
    return FramesToLatents(load_model(data_path))

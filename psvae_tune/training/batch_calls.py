"""What an evaluation asks of a model, one batch at a time."""

import torch
from torch import Generator

from psvae_tune.models.batch import Batch, Prediction
from psvae_tune.models.encoding import encode_batch
from psvae_tune.models.model import Model
from psvae_tune.training.cuda_graphs import CudaRecorder, GraphedFunction, Outputs


class BatchCalls:
    """Calls of a model for batches as they are stored, which a GPU can replay from CUDA graphs.

    Parameters
    ----------
    model
        The model, whose weights may change between calls.
    device
        Device of the model.
    recorder
        What records the calls, which pays if each is made many times.
    """

    names: tuple[str, ...] = ()
    """Names of the values in the first output of `score`, once it was called."""
    weights: dict[str, float]
    """Weights of the terms, once `score` was called."""

    def __init__(
        self, model: Model, device: torch.device, recorder: CudaRecorder | None = None
    ) -> None:
        self._model = model
        self.score = GraphedFunction(self._score, device, recorder)
        """Returns the terms, the sum of squares and the number of valid pixels of a batch in one
        tensor, and what `psvae_tune.models.encoding.encode_batch` returns."""
        self.encode = GraphedFunction(self._encode, device, recorder)
        """Returns the same without the first."""

    def close(self) -> None:
        """Free what was recorded."""
        self.score.close()
        self.encode.close()

    def _score(self, stored: Batch, rng: Generator) -> Outputs:
        batch = stored.as_floats()
        terms = self._model.terms_of_means(batch, rng)
        said = terms.prediction
        self.names = (*terms.terms, "loss", "squared_error", "n_valid_pixels")
        self.weights = {name: float(term.weight) for name, term in terms.terms.items()}
        values = [*terms.values().values(), terms.loss]
        row = torch.stack([*values, _squared_error(batch, said), batch.n_valid_pixels])
        return row, said.mean, said.logvar, said.labels

    def _encode(self, stored: Batch, rng: Generator) -> Outputs:
        return encode_batch(self._model, stored.as_floats())


def _squared_error(batch: Batch, prediction: Prediction) -> torch.Tensor:
    """Return the squared error summed over the valid pixels of a batch."""
    error = (batch.frames - prediction.frames).square()
    return (error if batch.frame_mask is None else error * batch.frame_mask).sum()

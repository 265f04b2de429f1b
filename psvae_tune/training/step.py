"""One optimisation step on a batch."""

import logging
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from psvae_tune.config.warm_up import WarmUp
from psvae_tune.errors import GpuMemoryError
from psvae_tune.models.batch import Batch, Ramp, Terms
from psvae_tune.models.layers.networks import ConvNet
from psvae_tune.models.model import Model
from psvae_tune.training.cuda_graphs import CudaRecorder, GraphedFunction, Outputs

logger = logging.getLogger(__name__)

MIN_COMPILED_STEPS = 10_000
"""Number of steps from which on a fit is compiled for a GPU.

Compiled steps of the published network take 0.5 to 0.7 of the time. To compile takes half a minute
the first time on a machine, and a few seconds once the files are there.
"""


def ramp(epoch: int, n_anneal_epochs: int) -> float:
    """Return the factor of annealed weights in an epoch, min(1, epoch / n_anneal_epochs).

    Parameters
    ----------
    epoch
        Counted from 1, so the last epoch of the annealing has the full weight.
    n_anneal_epochs
        Length of the annealing; 0 switches it off.
    """
    return min(1.0, epoch / n_anneal_epochs) if n_anneal_epochs else 1.0


class TrainingStep:
    """Steps of an optimiser on a model, which a GPU replays from CUDA graphs.

    Parameters
    ----------
    model, optimizer
        What is trained.
    device
        Device of the model.
    recorder
        What records the steps; None if they are not recorded.
    compiled_length
        Number of frames of the batches for which the networks and the objective are compiled, if
        that succeeds; None to compile nothing.
    warm_ups
        The weights that change in the first epochs.
    """

    names: tuple[str, ...] = ()
    """Names of the values that a step returns, once there was one; the last two count the valid
    pixels and the valid entries of the labels."""

    def __init__(
        self,
        model: Model,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        recorder: CudaRecorder | None = None,
        compiled_length: int | None = None,
        warm_ups: Sequence[WarmUp] = (),
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._device = device
        self._recorder = recorder
        self._ramp = _Scalar(device)
        self._warm_ups = warm_ups
        self._factors = {name: _Scalar(device) for item in warm_ups for name in item.terms}
        self._compiled_length = compiled_length
        self._has_compiled = False
        if compiled_length is not None:
            # What was compiled for the weights of another trial is of no use to this one, but for
            # its files. Draws lie between the two parts: generators cannot be compiled.
            torch.compiler.reset()
            self._encode = torch.compile(model.encode, dynamic=False)
            self._score = torch.compile(model.terms_of_draws, dynamic=False)
        self._step = self._new_step()

    def _new_step(self) -> GraphedFunction:
        return GraphedFunction(self._take, self._device, self._recorder)

    def start_epoch(self, epoch: int, seed: int) -> None:
        """Put the model into training mode; set what the steps of an epoch have in common.

        Parameters
        ----------
        epoch
            Number of the epoch, counted from 1, which gives the weights.
        seed
            Seed of the draws.
        """
        self._model.train()
        self._step.rng.manual_seed(seed)
        self._ramp.set(ramp(epoch, self._model.config.kl_anneal_epochs))
        for item in self._warm_ups:
            for name in item.terms:
                self._factors[name].set(item.factor(epoch))

    def __call__(self, batch: Batch) -> Tensor:
        """Take a step on a batch as it is stored, and return its values in the order of `names`.

        A batch that does not fit into the memory of the GPU is taken in micro-batches, from then
        on, half as large each time.

        Side effects: changes the model and the optimiser.

        Raises
        ------
        GpuMemoryError
            If not even a single frame fits.
        """
        draws = self._step.rng.get_state()
        while True:
            try:
                (values,) = self._step(batch)
                assert values is not None
                self._has_compiled |= len(batch.frames) == self._compiled_length
                return values
            except torch.OutOfMemoryError as error:
                full: torch.OutOfMemoryError | None = error.with_traceback(None)
            except RuntimeError as error:  # those of compilers are such
                if self._compiled_length is None or self._has_compiled:
                    raise
                why = str(error.__cause__ or error).strip().partition("\n")[0]
                logger.warning("steps are not compiled: %s", why)
                self._compiled_length, full = None, None
            # Outside of the clauses, which hold what the failed step has allocated.
            if full is not None:
                self._halve(len(batch.frames), full)
            self._step.rng.set_state(draws)

    def close(self) -> None:
        """Free what was recorded."""
        self._step.close()

    def _halve(self, n_frames: int, error: torch.OutOfMemoryError) -> None:
        """Take smaller micro-batches. Side effects: changes the network; frees memory."""
        net, size = self._model.net, 0
        if isinstance(net, ConvNet) and not self._model.config.ae_arch_json.ae_batch_norm:
            size = (net.micro_batch_size or n_frames) // 2
        if not size:
            raise GpuMemoryError(
                "training",
                f"a batch of {n_frames} frames does not fit into the memory of the GPU, in no "
                "parts that its network allows",
                hint="cut the recording into shorter clips, take a smaller network, or set "
                "resources.gpus_per_trial to 1",
            ) from error
        logger.warning("the GPU is full: steps take micro-batches of %d frames from here on", size)
        net.micro_batch_size = size
        self._compiled_length = None
        self._optimizer.zero_grad(set_to_none=True)
        if any("max_exp_avg_sq" not in each for each in self._optimizer.state.values()):
            self._optimizer.state.clear()  # it was full while Adam began
        self._step.close()
        self._step = self._new_step()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _take(self, stored: Batch, rng: Generator) -> Outputs:
        self._optimizer.zero_grad(set_to_none=True)
        batch = stored.as_floats()
        terms = self._terms(batch, rng)
        loss, values = terms.loss, terms.values()
        self.names = (*values, "loss", "n_valid_pixels", "n_valid_labels")
        counts = (batch.n_valid_pixels, batch.n_valid_labels)
        row = torch.stack([*values.values(), loss.detach(), *counts])
        loss.backward()  # type: ignore[no-untyped-call]
        # Last, so that a step that did not fit into memory has changed nothing.
        self._optimizer.step()
        return (row,)

    def _terms(self, batch: Batch, rng: Generator) -> Terms:
        """Return the terms with the weights of the epoch."""
        factors = {name: scalar.value for name, scalar in self._factors.items()}
        return self._full_terms(batch, rng).anneal(self._ramp.value).scale(factors)

    def _full_terms(self, batch: Batch, rng: Generator) -> Terms:
        """Return the terms with their full weights, compiled for one length of batches."""
        if len(batch.frames) != self._compiled_length:
            return self._model.terms(batch, 1.0, rng)
        q = self._encode(batch.frames, batch.labels_sc, batch.session_index)
        return self._score(batch, q, q.sample(rng), rng)


class _Scalar:
    """A factor of a weight; on a GPU one that a graph reads where it was when it was recorded."""

    def __init__(self, device: torch.device) -> None:
        self.value: Ramp = torch.ones((), device=device) if device.type == "cuda" else 1.0

    def set(self, value: float) -> None:
        """Change the factor."""
        if isinstance(self.value, Tensor):
            self.value.fill_(value)
        else:
            self.value = value

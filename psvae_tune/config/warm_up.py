"""The way of the weight of a term to its value at the beginning of a training."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WarmUp:
    """The weight of some terms changes geometrically from a start to its value.

    A large weight from the first step on leaves the other terms little to learn with.
    """

    name: str
    """Published name of the weight, such as ``ps_vae.alpha``."""
    terms: tuple[str, ...]
    """Terms of the objective that have this weight."""
    weight: float
    """Value that is reached."""
    start: float | None
    """Weight before the first epoch; None if the weight has its value at once."""
    n_epochs: int
    """Number of epochs until the value is reached."""

    @property
    def settings(self) -> tuple[str, str]:
        """Published names of the start and of the number of epochs."""
        return f"{self.name}_start", f"{self.name}_anneal_epochs"

    def problems(self) -> Iterator[str]:
        """Yield what is wrong: each setting without the other, and a start above the value."""
        start, epochs = self.settings
        if self.start is None and self.n_epochs:
            yield f"model.{epochs}: needs {start}, the weight to grow from, got {self.n_epochs}"
        elif self.start is not None and not self.n_epochs:
            yield f"model.{start}: needs {epochs}, the epochs to grow over, got {self.start:g}"
        if self.start is not None and self.start > self.weight:
            yield (
                f"model.{start}: must be at most {self.name} ({self.weight:g}), got {self.start:g}"
            )

    def factor(self, epoch: int) -> float:
        r"""Return the share of the weight that an epoch has.

        .. math:: (w_0 / w)^{1 - \min(1, e / n)}

        Parameters
        ----------
        epoch
            Counted from 1, so that the last epoch of the growth has the full weight.
        """
        if self.start is None:
            return 1.0
        return float((self.start / self.weight) ** (1 - min(1.0, epoch / self.n_epochs)))

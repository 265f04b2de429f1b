"""A training that goes on from the last state of another trial, with other weights."""

from typing import Annotated

from pydantic import Field

from psvae_tune.config.settings import Settings


class Continuation(Settings):
    """The trial that a training goes on from, and the way from its weights to the new ones."""

    parent: str
    """Identity of the trial whose last state the training begins with."""
    weights: dict[str, float]
    """Weights of that trial by their published names."""
    n_epochs: Annotated[int, Field(ge=1)]
    """Number of epochs of the training."""
    n_ramp_epochs: Annotated[int, Field(ge=0)]
    """Number of epochs over which weights change geometrically from the old to the new ones."""

    @property
    def identity(self) -> dict[str, str]:
        """What of it, beside the numbers of epochs, tells its trial from others."""
        old = " ".join(f"{name}={value:g}" for name, value in self.weights.items())
        return {"continued_from": self.parent, "continued_from_weights": old}

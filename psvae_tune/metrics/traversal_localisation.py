"""Measure where in the frame a latent acts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.arrays import Floats


@dataclass(frozen=True, slots=True)
class Localisation:
    """Places in the frame that traversals of latents change."""

    energy: NDArray[np.float64]
    """(latent, channel, height, width): share of each pixel in the change. The shares of a latent
    add up to 1, or are all 0 for a latent that changes nothing."""
    concentration: NDArray[np.float64]
    """(latent,): 0 where the change is spread over the frame (or absent), 1 in a single pixel."""
    overlap: float | None
    """Mean over pairs of latents of the cosine of their energies; None for a single latent."""


def traversal_localisation(difference_maps: Floats) -> Localisation:
    r"""Return where in the frame each latent acts, how narrowly, and how far latents overlap.

    .. math::
        p_{ix} = \frac{d_{ix}^2}{\sum_y d_{iy}^2}, \qquad
        c_i = 1 + \frac{\sum_x p_{ix} \log p_{ix}}{\log n_\mathrm{pixels}}, \qquad
        o = \Big\langle \frac{p_i \cdot p_j}{\|p_i\| \|p_j\|} \Big\rangle_{i<j}

    Channels count as separate pixels, because they may be different views. A latent that
    changes nothing has concentration 0 and overlaps with none.

    Parameters
    ----------
    difference_maps
        (latent, channel, height, width): frame at one end of the traversal minus the other end

    Returns
    -------
    Localisation
    """
    n_latents = len(difference_maps)
    change = np.abs(np.asarray(difference_maps, np.float64).reshape(n_latents, -1))
    # Changes are first divided by the largest one, since the square of a tiny one would underflow.
    change = _divide_rows(change, change.max(axis=1, initial=0.0))
    energy = _divide_rows(change**2, (change**2).sum(axis=1))
    logs = np.log(energy, out=np.zeros_like(energy), where=energy > 0)
    used = energy.any(axis=1)
    concentration = np.where(
        used, 1.0 + (energy * logs).sum(axis=1) / max(np.log(energy.shape[1]), 1.0), 0.0
    )
    overlap = None
    if n_latents > 1:
        unit = _divide_rows(energy, np.linalg.norm(energy, axis=1))
        overlap = float((unit @ unit.T)[np.triu_indices(n_latents, k=1)].mean())
    return Localisation(energy.reshape(difference_maps.shape), concentration, overlap)


def _divide_rows(table: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(table, by[:, None], out=np.zeros_like(table), where=by[:, None] > 0)

"""Measure how long a series of values remembers itself."""

import math

import numpy as np
from numpy.typing import NDArray


def autocorrelation(
    values: NDArray[np.float64], mask: NDArray[np.bool_], n_lags: int
) -> NDArray[np.float64]:
    r"""Return the autocorrelation of a series at lags of 0 to ``n_lags``.

    .. math:: r_k = \frac{\sum_t m_t m_{t+k} (y_t - \bar y)(y_{t+k} - \bar y)}
                         {v \sum_t m_t m_{t+k}}

    with mean :math:`\bar y` and variance :math:`v` of the valid values.

    Parameters
    ----------
    values, mask
        (frame,), and where they are valid; of which there is one at least
    n_lags
        The longest lag, below the number of frames.
    """
    centred = np.where(mask, values - values[mask].mean(), 0.0)
    n = 2 ** math.ceil(math.log2(2 * len(values)))
    power, counts = (
        np.fft.irfft(abs(np.fft.rfft(signal, n)) ** 2, n)[: n_lags + 1]
        for signal in (centred, mask.astype(float))
    )
    return power / np.maximum(counts, 1) / max(float(centred[mask].var()), 1e-12)


def memory_of(curve: NDArray[np.float64]) -> int:
    """Return the number of frames after which an autocorrelation is below 1/e."""
    below = np.flatnonzero(curve < 1 / np.e)
    return int(below[0]) if below.size else len(curve)

"""The generated recordings in which untracked movements are harder to tell apart."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class World:
    """What differs from the plain demo; lengths are in pixels of a frame of 32 by 32."""

    shared_time: float = 0.0
    """Share of the time in which the whisker repeats the movement of the jaw."""
    whisker_pivot: tuple[float, float] = (17.0, 8.5)
    whisker_brightness: float = 0.9
    has_ear: bool = False
    """Whether a third part moves untracked: an ear, from side to side."""
    flicker: float = 0.0
    """Amplitude of a slow change of the light, as a share of all brightness."""
    contrast: float = 1.0
    """Share of their brightness that moving parts keep above what is behind them."""
    noise: float = 0.02
    """Standard deviation of the noise of a pixel; brightness is from 0 to 1."""

    @property
    def truth_names(self) -> tuple[str, ...]:
        """Names of the parts that move untracked."""
        return ("jaw", "whisker", "ear")[: 2 + self.has_ear]


WORLDS: Mapping[str, World] = {
    "together": World(shared_time=0.5),
    "overlap": World(whisker_pivot=(4.0, 9.0)),
    "unequal": World(whisker_brightness=0.35),
    "three": World(has_ear=True),
    "flicker": World(flicker=0.3),
    "faint": World(contrast=0.35, noise=0.05),
}
"""Worlds by the name that follows ``demo:``."""

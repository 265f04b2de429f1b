"""Hold the positions and likelihoods of keypoints in one form for all trackers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psvae_tune.errors import DataError, nearest

ALL_TRACKS = "all"
"""Name that stands for every animal of a file."""
# Above it, the third number of a point is no likelihood, which some trackers overdraw a little.
_MAX_LIKELIHOOD = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """The contents of one pose file, in pixels of its video."""

    path: Path
    kind: str
    """Tracker and file format, for messages."""
    tracks: tuple[str, ...]
    """Names of the animals; one empty name where the file names none."""
    keypoints: tuple[str, ...]
    positions: NDArray[np.float64]
    """(row, track, keypoint, 2): x and y; NaN where missing."""
    likelihoods: NDArray[np.float64] | None
    """(row, track, keypoint); NaN where missing."""
    min_likelihood: float
    """Likelihood below which this tracker is usually wrong."""
    are_rows_numbered: bool = False
    """Whether row i is frame i because the file numbers its frames."""
    is_first_unsure: bool = False
    """Whether the numbers begin at 1, so that they may count the first frame as 1."""

    def choose(
        self, tracks: Sequence[str], keypoints: Sequence[str], min_likelihood: float | None
    ) -> "ChosenPoints":
        """Return the chosen points of this file, each with a unique name.

        Parameters
        ----------
        tracks
            Animals to take; empty for the only one, ``all`` for every one.
        keypoints
            Keypoints to take; empty for all.
        min_likelihood
            Likelihood below which a point is masked; None for the usual one of the tracker.

        Raises
        ------
        DataError
            If a track or a keypoint is missing, or none of several tracks is chosen.
        """
        problems, hint = [], None
        if min_likelihood is not None and self.likelihoods is None:
            problems.append(f"holds no likelihoods to compare with, got {min_likelihood:g}")
        elif min_likelihood is not None and not np.isfinite(min_likelihood):
            problems.append(f"--min-likelihood must be a finite number, got {min_likelihood:g}")
        if not tracks and len(self.tracks) > 1:
            problems.append(f"holds {len(self.tracks)} tracks: {_name_some(self.tracks)}")
            hint = f"choose with --track {self.tracks[0]}, or --track all"
        problems += _absent("track", tracks, (*self.tracks, ALL_TRACKS))
        problems += _absent("keypoint", keypoints, self.keypoints)
        if problems:
            raise DataError(str(self.path), problems, hint)
        everyone = not tracks or ALL_TRACKS in tracks
        chosen = list(range(len(self.tracks)))
        if not everyone:
            chosen = [self.tracks.index(name) for name in dict.fromkeys(tracks)]
        parts = [self.keypoints.index(name) for name in dict.fromkeys(keypoints or self.keypoints)]
        positions = self.positions[:, chosen][:, :, parts]
        valid = np.asarray(np.isfinite(positions).all(axis=-1))
        if self.likelihoods is not None:
            limit = self.min_likelihood if min_likelihood is None else min_likelihood
            likelihoods = self.likelihoods[:, chosen][:, :, parts]
            valid &= ~(np.nan_to_num(likelihoods) < limit)
        # Pairs without any position get no label: DeepLabCut's unique body parts have one animal.
        pairs = np.argwhere(np.isfinite(positions).all(axis=-1).any(axis=0))
        names = [self._name(chosen[t], parts[k], len(chosen) > 1) for t, k in pairs]
        if not names:
            raise DataError(str(self.path), "holds no position of what was chosen")
        at = pairs[:, 0], pairs[:, 1]
        return ChosenPoints(
            tuple(names), np.nan_to_num(positions[:, *at]), np.ascontiguousarray(valid[:, *at])
        )

    def _name(self, track: int, keypoint: int, has_several: bool) -> str:
        prefix = f"{self.tracks[track]}_" if has_several else ""
        return prefix + self.keypoints[keypoint]


@dataclass(frozen=True, slots=True, eq=False)
class ChosenPoints:
    """The tracked points that become labels."""

    names: tuple[str, ...]
    positions: NDArray[np.float64]
    """(row, point, 2) in pixels of the video; 0 where the file holds none."""
    valid: NDArray[np.bool_]
    """(row, point); False where a position is missing or of low likelihood."""


def make_poses(
    path: Path,
    kind: str,
    tracks: Sequence[str],
    keypoints: Sequence[str],
    positions: NDArray[np.floating],
    likelihoods: NDArray[np.floating] | None,
    *,
    min_likelihood: float = 0.9,
    are_rows_numbered: bool = False,
    is_first_unsure: bool = False,
) -> Poses:
    """Return checked poses; a point at (0, 0) or (-1, -1) counts as missing.

    Raises
    ------
    DataError
        If there is no position, a name is repeated, or the likelihoods are something else.
    """
    places = np.array(positions, dtype=np.float64)
    if not places.size:
        raise DataError(str(path), f"holds no positions, got the shape {places.shape}")
    problems = [
        f"must not repeat a {what}, got {', '.join(repeated)}"
        for what, names in (("track", tracks), ("keypoint", keypoints))
        if (repeated := sorted({name for name in names if list(names).count(name) > 1}))
    ]
    if problems:
        raise DataError(str(path), problems)
    missing = ~np.isfinite(places).all(axis=-1)
    missing |= (places == 0).all(axis=-1) | (places == -1).all(axis=-1)
    places[missing] = np.nan
    if missing.all():
        raise DataError(str(path), "every position is missing, NaN, (0, 0) or (-1, -1)")
    if likelihoods is not None and not np.isfinite(likelihoods).any():
        likelihoods = None  # a column that was left empty
    if likelihoods is not None and min_likelihood:
        usual = float(np.median(np.nan_to_num(likelihoods[~missing])))
        if usual > _MAX_LIKELIHOOD:
            problem = f"must hold likelihoods from 0 to 1, got numbers about {usual:g}"
            raise DataError(str(path), problem, "of a 3-D table, give the one of this camera")
    return Poses(
        path=path,
        kind=kind,
        tracks=tuple(tracks),
        keypoints=tuple(keypoints),
        positions=places,
        likelihoods=None if likelihoods is None else np.array(likelihoods, dtype=np.float64),
        min_likelihood=min_likelihood,
        are_rows_numbered=are_rows_numbered,
        is_first_unsure=is_first_unsure,
    )


def _absent(what: str, names: Sequence[str], known: Sequence[str]) -> list[str]:
    problems = []
    for name in dict.fromkeys(names):
        if name not in known:
            near = nearest(name, known)
            advice = f"did you mean `{near}`?" if near else f"there are {_name_some(known)}"
            problems.append(f"has no {what} `{name}`; {advice}")
    return problems


def _name_some(names: Sequence[str]) -> str:
    shown = [name for name in names if name != ALL_TRACKS]
    return ", ".join(shown[:10]) + (", …" if len(shown) > 10 else "")

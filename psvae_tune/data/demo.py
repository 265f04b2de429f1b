"""Generate a small recording whose untracked movements are known.

A head-fixed animal, 32 by 32 grey pixels: two paws that a tracker follows, badly at times, and
two parts that nobody tracks, a jaw that moves up and down and a whisker that sweeps. All
movements are independent, so that a good model has one latent for each, which can be measured.
`demo_worlds` has recordings in which that is harder.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from psvae_tune.config.session_list import DEMO
from psvae_tune.data.demo_worlds import WORLDS, World
from psvae_tune.data.session_file import ExtraGroup, write_session
from psvae_tune.errors import DataError, nearest

GENERATOR_VERSION = 2
SIZE = 32
N_CLIPS = 20
CLIP_LENGTH = 80
PLAIN = World()
LABEL_NAMES = ("paw_left_x", "paw_right_x", "paw_left_y", "paw_right_y")

# Geometry, in pixels of a frame of 32 by 32.
_PAW_CENTRES = ((8.0, 24.0), (23.0, 24.0))
_PAW_REACH = 4.0
_PAW_WIDTH = 1.7
_JAW_CENTRE = (8.0, 9.0)
_JAW_REACH = 4.0
_JAW_HALF_SIZE = (5.5, 2.0)
_WHISKER_LENGTH = 11.0
_WHISKER_HALF_WIDTH = 1.5
_WHISKER_SWEEP = 0.75  # radians to either side
_EAR_CENTRE = (16.0, 2.0)
_EAR_REACH = 5.0
_EAR_HALF_SIZE = (2.0, 2.0)

# The brightness of head and body differs between seeds, by steps that never repeat.
_HEAD_SHADE = 0.08
_BODY_SHADE = 0.08
_SHADE_RANGE = 0.3
_HEAD_STEP = 0.618
_BODY_STEP = 0.414

_SMOOTHNESS = 2.5  # width, in frames, of the kernel that smooths every motion
_SLOWNESS = 20.0  # the same of the light that flickers, and of what jaw and whisker share
_MASKED_FRACTION = 0.03
_MASKED_LENGTH = 5  # number of frames for which the tracker loses a paw


def write_demo(
    path: str | Path,
    *,
    seed: int = 0,
    n_clips: int = N_CLIPS,
    clip_length: int = CLIP_LENGTH,
    size: int = SIZE,
    world: World = PLAIN,
) -> None:
    """Write a generated session file.

    Parameters
    ----------
    path
        The file to write; one that exists is replaced.
    seed
        Seed of all random numbers and of the light; it determines the recording.
    n_clips, clip_length
        Number of clips, and of frames in each.
    size
        Height and width of a frame in pixels.
    world
        What differs from the plain demo.
    """
    rng = np.random.default_rng(seed)
    recording = _generate(rng, world, _draw_light(seed), n_clips * clip_length, size)
    write_session(
        path,
        recording.frames,
        [clip_length] * n_clips,
        label_names=LABEL_NAMES,
        labels=recording.labels,
        label_masks=recording.label_masks,
        labels_sc=recording.labels,
        extra_groups={
            "truth": ExtraGroup(recording.truth, {"truth_names": json.dumps(world.truth_names)})
        },
    )


def demo_path(seed: int = 0, world: str = "") -> Path:
    """Return the path of a demo session, generated on the first call.

    Each seed has its own movements and light, so that sessions can be told apart. ``world`` is a
    name in `WORLDS`, or empty for the plain demo.

    Side effects
    ------------
    Writes one file into the user's cache folder, or into ``PSVAE_TUNE_CACHE`` where that is set.
    """
    folder = Path(os.environ.get("PSVAE_TUNE_CACHE") or user_cache_path("psvae_tune"))
    name = f"demo_v{GENERATOR_VERSION}_{world}" if world else f"demo_v{GENERATOR_VERSION}"
    path = folder / f"{name}_seed{seed}.h5"
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_demo(path, seed=seed, world=WORLDS[world] if world else PLAIN)
        except OSError as error:
            hint = "set PSVAE_TUNE_CACHE to a folder that you may write to"
            raise DataError(str(path), f"cannot be written, got {error}", hint) from error
    return path


@dataclass(frozen=True, slots=True)
class _Recording:
    frames: NDArray[np.uint8]
    labels: NDArray[np.float32]
    label_masks: NDArray[np.bool_]
    truth: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Light:
    """Brightness of the still parts of a scene, above the background."""

    head: float
    body: float


def _draw_light(seed: int) -> _Light:
    head, body = (_SHADE_RANGE * (seed * step % 1) for step in (_HEAD_STEP, _BODY_STEP))
    return _Light(_HEAD_SHADE + head, _BODY_SHADE + body)


def _generate(
    rng: np.random.Generator, world: World, light: _Light, n_frames: int, size: int
) -> _Recording:
    motions = _draw_motions(rng, n_frames, 6 + world.has_ear)
    paws, parts = motions[:, :4], motions[:, 4:]
    if world.shared_time:
        slow = _draw_motions(rng, n_frames, 1, _SLOWNESS)[:, 0]
        is_shared = slow < 2 * world.shared_time - 1
        parts[is_shared, 1] = parts[is_shared, 0]
    centres = np.array(_PAW_CENTRES).T.ravel()  # all x, then all y
    positions = centres + _PAW_REACH * paws
    frames = _render(rng, world, light, positions, parts, size)
    label_masks = _draw_label_masks(rng, n_frames)
    # Where the tracker loses a paw, it reports a random position in the frame.
    wrong = rng.uniform(0, SIZE - 1, positions.shape)
    labels = np.where(label_masks, positions, wrong) * (size / SIZE)
    jaw = (_JAW_CENTRE[1] + _JAW_REACH * parts[:, 0]) * (size / SIZE)
    whisker = np.degrees(_WHISKER_SWEEP * parts[:, 1])
    ear = (_EAR_CENTRE[0] + _EAR_REACH * parts[:, 2:].T) * (size / SIZE)
    truth = np.stack([jaw, whisker, *ear], axis=1)
    return _Recording(frames, labels.astype(np.float32), label_masks, truth.astype(np.float32))


def _draw_motions(
    rng: np.random.Generator, n_frames: int, n_motions: int, smoothness: float = _SMOOTHNESS
) -> NDArray[np.float64]:
    """Draw smooth independent paths in [-1, 1] that visit every value about equally often."""
    reach = int(4 * smoothness)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / smoothness) ** 2)
    noise = rng.standard_normal((n_motions, n_frames + 2 * reach))
    smooth = np.array([np.convolve(row, kernel, mode="valid") for row in noise])
    ranks = smooth.argsort(axis=1).argsort(axis=1)
    return (2 * (ranks + 0.5) / n_frames - 1).T


def _draw_label_masks(rng: np.random.Generator, n_frames: int) -> NDArray[np.bool_]:
    """Draw stretches in which one paw is lost, both its coordinates at once."""
    paw_masks = np.ones((n_frames, 2), dtype=bool)
    for start in np.flatnonzero(rng.random(n_frames) < 2 * _MASKED_FRACTION / _MASKED_LENGTH):
        paw_masks[start : start + _MASKED_LENGTH, rng.integers(2)] = False
    return np.tile(paw_masks, 2)


def _render(
    rng: np.random.Generator,
    world: World,
    light: _Light,
    positions: NDArray[np.float64],
    parts: NDArray[np.float64],
    size: int,
) -> NDArray[np.uint8]:
    """Render every frame: the still background, the paws, the parts, the light, pixel noise."""
    y, x = np.mgrid[:size, :size] * (SIZE / size)
    frames = np.broadcast_to(_draw_background(rng, light, x, y), (len(positions), size, size))
    for brightness, cover in _cover(world, x, y, positions, parts):
        frames = _paint(frames, brightness, world.contrast * cover)
    if world.flicker:
        slow = _draw_motions(rng, len(frames), 1, _SLOWNESS)[:, :, None]
        frames = frames * (1 + world.flicker * slow)
    frames = frames + world.noise * rng.standard_normal(frames.shape)
    return np.rint(255 * frames.clip(0, 1)).astype(np.uint8)[:, None]


def _cover(
    world: World,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    positions: NDArray[np.float64],
    parts: NDArray[np.float64],
) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """Yield the brightness of each moving part and how much of each pixel it covers."""
    for paw in range(2):
        dx, dy = (x - positions[:, paw, None, None], y - positions[:, paw + 2, None, None])
        yield 0.95, np.exp(-0.5 * (dx**2 + dy**2) / _PAW_WIDTH**2)
    jaw_y = _JAW_CENTRE[1] + _JAW_REACH * parts[:, 0, None, None]
    yield 0.85, _bar(x - _JAW_CENTRE[0], y - jaw_y, *_JAW_HALF_SIZE)
    angle = _WHISKER_SWEEP * parts[:, 1, None, None]
    dx, dy = x - world.whisker_pivot[0], y - world.whisker_pivot[1]
    along = dx * np.cos(angle) + dy * np.sin(angle) - _WHISKER_LENGTH / 2
    across = dy * np.cos(angle) - dx * np.sin(angle)
    yield world.whisker_brightness, _bar(along, across, _WHISKER_LENGTH / 2, _WHISKER_HALF_WIDTH)
    if world.has_ear:
        ear_x = _EAR_CENTRE[0] + _EAR_REACH * parts[:, 2, None, None]
        yield 0.8, _bar(x - ear_x, y - _EAR_CENTRE[1], *_EAR_HALF_SIZE)


def _draw_background(
    rng: np.random.Generator, light: _Light, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Draw a dim textured scene with the outline of a head and a body."""
    head = ((x - 15) / 15) ** 2 + ((y - 7) / 9) ** 2 < 1
    body = ((x - 16) / 12) ** 2 + ((y - 24) / 12) ** 2 < 1
    return 0.1 + light.head * head + light.body * body + 0.04 * rng.random(x.shape)


def _bar(
    u: NDArray[np.float64], v: NDArray[np.float64], half_u: float, half_v: float
) -> NDArray[np.float64]:
    """Cover a rectangle around the origin, its edges one pixel soft."""
    cover: NDArray[np.float64] = np.clip(half_u - abs(u) + 0.5, 0, 1) * np.clip(
        half_v - abs(v) + 0.5, 0, 1
    )
    return cover


def _paint(
    frames: NDArray[np.float64], brightness: float, cover: NDArray[np.float64]
) -> NDArray[np.float64]:
    return frames + cover * (brightness - frames)


def session_path(name: str) -> str | Path:
    """Return the path or URL of a session; ``demo`` and ``demo:WORLD:SEED`` are generated once.

    Side effects: writes a demo recording into the user's cache if it is not there.

    Raises
    ------
    DataError
        If no world has the name that follows ``demo:``.
    """
    match = DEMO.fullmatch(name)
    if match is None:
        return name
    if match[1] and match[1] not in WORLDS:
        near = nearest(match[1], list(WORLDS))
        raise DataError(
            name,
            f"names no generated recording; the worlds are {', '.join(WORLDS)}",
            f"did you mean 'demo:{near}'?" if near else None,
        )
    return demo_path(int(match[2] or 0), match[1] or "")

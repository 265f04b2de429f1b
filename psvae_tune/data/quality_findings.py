"""Judge the measures of a session: each finding has its number and the nearest fix.

The file is long because all rules stand side by side.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.autocorrelation import memory_of
from psvae_tune.data.quality_measures import Measures
from psvae_tune.errors import DataError

MAX_MASKED = 0.5
"""Share of masked values above which a label has little to teach."""
REDUNDANT = 0.95
"""|r| above which two labels are redundant."""
MAX_OUTSIDE = 0.005
"""Share of positions outside the frame that is more than slips of a tracker."""
JUMP_RANGE, JUMP_STEPS = 0.3, 10
"""A step is a jump if it exceeds this share of a label's range and this many usual steps."""
MAX_REPEATED = 0.01
"""Share of repeated frames above which a video was probably converted badly."""
MAX_SATURATED = 0.05
"""Share of saturated pixels above which a video is overexposed."""
MIN_CONTRAST = 64 / 255
"""Range of pixel values, as a share of all values, below which most values are wasted."""
MIN_INDEPENDENT = 5
"""Stretches of independent frames that a clip should hold."""
ALIKE = 0.2
"""Correlation, or R², below which two things count as unrelated."""
MIN_FRAMES = 1000
"""Frames below which models tend to overfit."""
N_UNSUPERVISED = 2
"""Unsupervised latents of the published fits of single sessions."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check of a session."""

    level: Literal["good", "look", "bad"]
    about: str
    """Subject of the check, for example ``lag``."""
    text: str
    """The finding in words, with its number."""
    fix: str = ""
    """The nearest fix; empty where nothing is to be done."""


def find_issues(measures: Measures) -> list[Finding]:
    """Return the findings of all checks of a session, the worst first."""
    findings = [finding for rule in _RULES for finding in rule(measures)]
    order = ("bad", "look", "good")
    return sorted(findings, key=lambda finding: order.index(finding.level))


def _size(measures: Measures) -> Iterator[Finding]:
    header = measures.header
    shape = "×".join(map(str, header.frame_shape))
    text = f"{header.n_frames} frames of {shape}, {measures.dtype}, in {header.n_clips} clips"
    if header.n_clips < 10:
        fix = "import with a smaller --clip-length: 8;1;1;0 needs 10 clips"
        yield Finding("bad", "size", text, fix)
    elif header.n_frames < MIN_FRAMES:
        yield Finding("look", "size", text, f"below {MIN_FRAMES} frames, models tend to overfit")
    else:
        yield Finding("good", "size", text)


def _values(measures: Measures) -> Iterator[Finding]:
    if not measures.problems:
        yield Finding("good", "values", "every value can be used")
        return
    text, n_more = measures.problems[0], len(measures.problems) - 1
    text += f", and {n_more} more such problems" if n_more else ""
    yield Finding("bad", "values", text, "no study takes this: mend the file that was written")


def _pixels(measures: Measures) -> Iterator[Finding]:
    unit = 255 if measures.dtype == "uint8" else 1.0
    low, high = measures.pixel_min, measures.pixel_max
    text = f"pixels from {low:g} to {high:g}, {measures.saturated:.1%} saturated"
    if (high - low) < MIN_CONTRAST * unit:
        yield Finding("look", "pixels", text, "stretch the contrast of the video before importing")
    elif measures.saturated > MAX_SATURATED:
        yield Finding("look", "pixels", text, "crop away what is overexposed")
    else:
        yield Finding("good", "pixels", text)
    if measures.still:
        text = f"{len(measures.still)} frames of one value, first {measures.still[0]}"
        yield Finding("bad", "pixels", text, "leave them out with --frames")


def _repeats(measures: Measures) -> Iterator[Finding]:
    if not measures.repeated:
        yield Finding("good", "duplicates", "no frame is the one before it again")
        return
    count = len(measures.repeated)
    share = count / measures.header.n_frames
    text = f"{count} frames ({share:.1%}) repeat the one before, first {measures.repeated[0]}"
    fix = "the camera or a conversion filled gaps; import with --frames ::2 if every other does"
    yield Finding("look" if share > MAX_REPEATED else "good", "duplicates", text, fix)


def _drops(measures: Measures) -> Iterator[Finding]:
    if measures.times is None or len(measures.times) < 3:
        return
    steps = np.diff(measures.times)
    usual = float(np.median(steps))
    if usual <= 0:
        yield Finding("look", "dropped frames", f"steps of {usual:g} s: these are no times")
        return
    late = steps > 1.5 * usual
    if not late.any():
        yield Finding("good", "dropped frames", f"every step is about {1000 * usual:.3g} ms")
        return
    lost = int(np.rint(steps[late] / usual - 1).sum())
    text = f"{lost} frames are missing at {late.sum()} places, first after {late.argmax()}"
    fix = "check with --label-offset or by eye that the pose file skips the same frames"
    yield Finding("look", "dropped frames", text, fix)


def _empty_labels(measures: Measures) -> Iterator[Finding]:
    n_good = 0
    for name, column, mask in _columns(measures):
        masked = 1 - mask.mean()
        fix = f"leave `{name}` out (--keypoints when importing)"
        if not mask.any() or column[mask].min() == column[mask].max():
            what = "never varies" if mask.any() else "is masked in every frame"
            yield Finding("bad", "labels", f"`{name}` {what}", fix)
        elif masked > MAX_MASKED:
            text = f"`{name}` is masked in {masked:.0%} of the frames"
            yield Finding("look", "labels", text, f"{fix}, or lower --min-likelihood")
        else:
            n_good += 1
    if n_good and n_good == measures.header.n_labels:
        masked = 1 - measures.masks.mean()
        yield Finding("good", "labels", f"{n_good} labels vary, {masked:.1%} of values are masked")


def _jumps(measures: Measures) -> Iterator[Finding]:
    found = []
    for name, column, mask in _columns(measures):
        both = mask[1:] & mask[:-1]
        both[measures.clip_starts[1:] - 1] = False
        steps = np.where(both, abs(np.diff(column)), 0.0)
        if not both.any():
            continue
        low, high = np.percentile(column[mask], [1, 99])
        usual = float(np.median(steps[both]))
        far = steps > max(JUMP_RANGE * (high - low), JUMP_STEPS * usual)
        if far.any():
            found.append((int(far.sum()), name, int(far.argmax()) + 1))
    if not found:
        yield Finding("good", "jumps", "no label jumps")
        return
    count, name, frame = max(found)
    text = (
        f"{sum(item[0] for item in found)} jumps in {len(found)} labels; most in `{name}`, "
        f"{count}, first at frame {frame}"
    )
    yield Finding("look", "jumps", text, "raise --min-likelihood, or smooth the pose file")


def _outside(measures: Measures) -> Iterator[Finding]:
    if measures.positions is None:
        return
    half = measures.header.n_labels // 2
    limits = np.repeat([measures.header.width, measures.header.height], half)
    is_out = measures.masks & ((measures.positions < -0.5) | (measures.positions > limits))
    share = float(is_out.sum() / max(1, measures.masks.sum()))
    if not is_out.any():
        yield Finding("good", "places", "every valid place lies in the frame")
        return
    worst = int(is_out.sum(0).argmax())
    text = (
        f"{is_out.sum()} valid places ({share:.2%}) lie outside the frame, most of "
        f"`{measures.header.label_names[worst]}`"
    )
    level: Literal["look", "bad"] = "bad" if share > MAX_OUTSIDE else "look"
    yield Finding(level, "places", text, "import with the --crop or video that was tracked")


def _redundant(measures: Measures) -> Iterator[Finding]:
    pairs = redundant_pairs(measures)
    if not pairs and measures.header.n_labels > 1:
        yield Finding("good", "redundant labels", f"no two labels have |r| above {REDUNDANT}")
    for _, first, second, r in pairs[:5]:
        fix = "drop one of the two: each takes a supervised latent"
        yield Finding("look", "redundant labels", f"`{first}` and `{second}`: r = {r:.3f}", fix)
    if len(pairs) > 5:
        yield Finding("look", "redundant labels", f"and {len(pairs) - 5} more pairs")


def redundant_pairs(measures: Measures) -> list[tuple[float, str, str, float]]:
    """Return |r|, two names and r of each pair of redundant labels, the worst first."""
    pairs = []
    names = measures.header.label_names
    for i in range(len(names)):
        for j in range(i):
            both = measures.masks[:, i] & measures.masks[:, j]
            a, b = measures.labels[both, i], measures.labels[both, j]
            if both.sum() > 2 and a.std() > 0 and b.std() > 0:
                r = float(np.corrcoef(a, b)[0, 1])
                if abs(r) > REDUNDANT:
                    pairs.append((abs(r), names[j], names[i], r))
    return sorted(pairs, reverse=True)


def _lag(measures: Measures) -> Iterator[Finding]:
    curve = measures.lag
    if curve is None:
        return
    best, zero = max(curve.r2), curve.r2[curve.lags.index(0)]
    if curve.best and curve.is_clear:
        text = (
            f"labels fit the frames best {abs(curve.best)} frames "
            f"{'earlier' if curve.best > 0 else 'later'}: R² {best:.2f} instead of {zero:.2f}"
        )
        yield Finding("bad", "lag", text, f"import again with --label-offset {-curve.best:+d}")
    elif best >= ALIKE and abs(curve.best) == max(curve.lags):
        text = (
            f"the fit still rises {curve.best} frames away, R² {best:.2f} instead of {zero:.2f}: "
            "the lag is longer, or the labels too slow to tell"
        )
        yield Finding("look", "lag", text, "look at the contact sheet")
    elif best < ALIKE:
        text = f"cannot be measured: labels are read from the frames with R² {best:.2f} at best"
        yield Finding("look", "lag", text, "look at the contact sheet")
    else:
        yield Finding("good", "lag", f"labels fit their own frames best (R² {zero:.2f})")


def _clip_length(measures: Measures) -> Iterator[Finding]:
    curve = measures.autocorrelation()
    if curve is None:
        return
    memory = memory_of(curve)
    length = measures.clip_length
    n_independent = length / (2 * memory)
    text = (
        f"labels forget themselves in {memory} frames; a clip of {length} holds about "
        f"{n_independent:.1f} independent stretches"
    )
    if n_independent < MIN_INDEPENDENT:
        longer = 2 * memory * MIN_INDEPENDENT
        fix = f"--clip-length {longer} makes the terms over pairs of frames surer"
        if measures.header.n_frames // longer < 10:
            fix = "record longer: with longer clips there would be fewer than 10"
        yield Finding("look", "clip length", text, fix)
    else:
        yield Finding("good", "clip length", text)
    across = float(curve[min(length // 2, len(curve) - 1)])
    text = f"half a clip away, labels still correlate with r = {across:.2f}"
    if across > ALIKE:
        fix = 'leave a clip out between splits: trial_splits: "8;1;1;1" (13 clips)'
        yield Finding("look", "leakage between splits", text, fix)
    else:
        yield Finding("good", "leakage between splits", text)


def _capacity(measures: Measures) -> Iterator[Finding]:
    found = measures.capacity
    if isinstance(found, DataError):
        yield Finding("look", "capacity", f"{found.where} {found.problems[0]}", found.hint or "")
        return
    n_left = found.count_active(1.0)
    text = (
        f"{int((found.frames > 1).sum())} components of the frames have a variance above 1, "
        f"{n_left} of what {measures.header.n_labels} labels leave"
    )
    if n_left >= N_UNSUPERVISED:
        yield Finding("good", "capacity", text)
    else:
        fix = (
            f"decoder_variance {found.choose_variance(N_UNSUPERVISED):.2g} keeps 2 latents active"
        )
        yield Finding("look", "capacity", text, fix)


def _scale(measures: Measures) -> Iterator[Finding]:
    columns = [column[mask] for _, column, mask in _columns(measures) if mask.any()]
    if not columns:
        return
    means = np.array([column.mean() for column in columns])
    stds = np.array([column.std() for column in columns])
    if (abs(means) < 0.2).all() and (abs(stds - 1) < 0.3).all():
        yield Finding("good", "scale", "labels are standardised already")
    else:
        text = f"labels are in units of their own (std {stds.min():.3g} to {stds.max():.3g})"
        yield Finding("good", "scale", f"{text}; studies standardise them (label_scaling)")


def _columns(
    measures: Measures,
) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.bool_]]]:
    yield from zip(measures.header.label_names, measures.labels.T, measures.masks.T, strict=True)


_RULES: tuple[Callable[[Measures], Iterator[Finding]], ...] = (
    _size,
    _values,
    _pixels,
    _repeats,
    _drops,
    _empty_labels,
    _jumps,
    _outside,
    _redundant,
    _lag,
    _clip_length,
    _scale,
    _capacity,
)

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from psvae_tune.data.quality_findings import Finding, find_issues
from psvae_tune.data.quality_measures import measure_session
from psvae_tune.data.session_file import ExtraGroup, write_session
from tests.support.recordings import HEIGHT, WIDTH, draw, path_of_square

N, CLIP = 1200, 100
NAMES = ("paw_x", "paw_y")


@pytest.fixture
def examine(tmp_path: Path) -> Callable[..., dict[str, list[Finding]]]:
    """Write a session that is in order but for what a test changes, and return what is found."""

    def examine(**changed: object) -> dict[str, list[Finding]]:
        centres = path_of_square(N)
        contents: dict[str, object] = {
            "frames": draw(centres)[:, None],
            "labels": centres,
            "label_masks": np.ones((N, 2), bool),
            "label_names": NAMES,
        }
        contents |= changed
        contents.setdefault("labels_sc", contents["labels"])
        frames, clip = contents.pop("frames"), contents.pop("clip", CLIP)
        path = tmp_path / "session.h5"
        write_session(path, frames, [clip] * (N // clip), **contents)
        found: dict[str, list[Finding]] = {}
        for finding in find_issues(measure_session(str(path))):
            found.setdefault(finding.about, []).append(finding)
        return found

    return examine


def levels(found: dict[str, list[Finding]]) -> dict[str, str]:
    return {about: findings[0].level for about, findings in found.items()}


def test_a_session_in_order_has_nothing_but_good(examine):
    assert set(levels(examine()).values()) == {"good"}


@pytest.mark.parametrize("clip", [5, CLIP])
@pytest.mark.parametrize("shift", [-6, 3])
def test_a_shifted_pose_file_is_told_with_its_lag(examine, shift, clip):
    finding = examine(labels=np.roll(path_of_square(N), shift, axis=0), clip=clip)["lag"][0]
    assert finding.level == "bad"
    assert f"{abs(shift)} frames {'earlier' if shift > 0 else 'later'}" in finding.text
    assert f"--label-offset {-shift:+d}" in finding.fix


def test_labels_of_something_else_have_no_lag(examine):
    finding = examine(labels=path_of_square(N, seed=5))["lag"][0]
    assert finding.level == "look"
    assert "cannot be measured" in finding.text


def test_duplicate_frames_are_counted_also_between_clips(examine):
    frames = draw(path_of_square(N))[:, None]
    frames[:, 0, 0, 0] = np.arange(N) % 2  # no two neighbours are the same
    for frame in (7, CLIP, 555):
        frames[frame:] = np.concatenate([frames[frame - 1 : frame], frames[frame:-1]])
    finding = examine(frames=frames)["duplicates"][0]
    assert finding.text == "3 frames (0.2%) repeat the one before, first 7"


def test_dropped_frames_are_counted(examine):
    times = np.arange(N) / 30
    times[400:] += 2 / 30
    found = examine(extra_groups={"time_s": ExtraGroup(times)})
    assert found["dropped frames"][0].text == "2 frames are missing at 1 places, first after 399"


def test_constant_and_mostly_masked_labels_are_named(examine):
    labels = path_of_square(N)
    labels[:, 1] = 5
    masks = np.ones((N, 2), bool)
    masks[: N * 6 // 10, 0] = False
    found = examine(labels=labels, label_masks=masks)["labels"]
    assert [(f.level, f.text) for f in found] == [
        ("bad", "`paw_y` never varies"),
        ("look", "`paw_x` is masked in 60% of the frames"),
    ]


def test_a_jump_is_found_unless_it_is_masked_or_between_clips(examine):
    labels = path_of_square(N)
    labels[250, 0] += WIDTH
    finding = examine(labels=labels, labels_sc=path_of_square(N))["jumps"][0]
    assert finding.text == "2 jumps in 1 labels; most in `paw_x`, 2, first at frame 250"
    masks = np.ones((N, 2), bool)
    masks[250, 0] = False
    assert examine(labels=labels, label_masks=masks)["jumps"][0].level == "good"
    moved = path_of_square(N)
    moved[CLIP : 2 * CLIP] += HEIGHT
    assert examine(labels=moved)["jumps"][0].level == "good"


def test_places_outside_the_frame_are_counted(examine):
    places = path_of_square(N)
    places[:30, 1] = HEIGHT + 9
    finding = examine(labels_sc=places)["places"][0]
    assert finding.level == "bad"
    expected = "30 valid places (1.25%) lie outside the frame, most of `paw_y`"
    assert finding.text == expected


def test_two_labels_that_say_the_same_are_named(examine):
    centres = path_of_square(N)
    twice = np.stack([centres[:, 0], 3 - 2 * centres[:, 0]], axis=1)
    finding = examine(labels=twice)["redundant labels"][0]
    assert (finding.level, finding.text) == ("look", "`paw_x` and `paw_y`: r = -1.000")


def test_slow_labels_need_longer_clips_and_a_gap(examine):
    slow = np.sin(np.arange(N) / 60)[:, None] * [20, 10] + [48, 32]
    found = examine(labels=slow, clip=10)
    # A sine is below 1/e of itself after acos(1/e) = 1.194 radians: 72 frames.
    assert "forget themselves in 7" in found["clip length"][0].text
    assert found["clip length"][0].level == "look"
    assert found["leakage between splits"][0].level == "look"


def test_dark_still_and_overexposed_frames_are_told(examine):
    frames = draw(path_of_square(N))[:, None]
    assert examine(frames=frames // 8)["pixels"][0].level == "look"
    frames[3] = 0
    assert "1 frames of one value, first 3" in examine(frames=frames)["pixels"][0].text
    frames[:, :, :20] = 255
    assert "saturated" in examine(frames=frames)["pixels"][-1].text
    assert levels({"pixels": examine(frames=frames)["pixels"][-1:]})["pixels"] == "look"


def test_standardised_labels_are_recognised(examine):
    centres = path_of_square(N)
    standard = (centres - centres.mean(0)) / centres.std(0)
    assert "standardised already" in examine(labels=standard)["scale"][0].text
    assert "units of their own" in examine()["scale"][0].text


def test_too_few_clips_to_split_are_told(examine):
    finding = examine(clip=N // 6)["size"][0]
    assert finding.level == "bad"
    assert "needs 10 clips" in finding.fix


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mirror_mouse/mirror_mouse_128.h5", "flies13/flies13_track0_96.h5"]
)
def test_nothing_is_bad_in_real_recordings(shared, name):
    findings = find_issues(measure_session(str(shared / "data" / name)))
    assert [f for f in findings if f.level == "bad"] == []
    assert any(f.about == "lag" and f.level == "good" for f in findings)

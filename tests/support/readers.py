"""What reads the files that are damaged here, as the commands do."""

from pathlib import Path

import numpy as np


def read_recording(path: Path) -> None:
    """As ``run`` does."""
    from psvae_tune.data.session_file import read_session

    read_session(path, needs_labels=True)


def check_recording(path: Path) -> None:
    """As ``data check`` does."""
    from psvae_tune.data.quality_findings import find_issues
    from psvae_tune.data.quality_measures import measure_session

    find_issues(measure_session(str(path)))


def picture_recording(path: Path) -> None:
    """As ``data check --html`` does."""
    from psvae_tune.data.quality_findings import find_issues
    from psvae_tune.data.quality_measures import measure_session
    from psvae_tune.results.recording_page import build_session_page

    measures = measure_session(str(path))
    build_session_page([(measures, find_issues(measures))])


def read_pose_file(path: Path) -> None:
    """As ``data import`` does."""
    from psvae_tune.data.importers.read_poses import read_poses

    read_poses(path, Path("video.mp4")).choose([], [], None)


def read_video(path: Path) -> None:
    """As ``data import`` does."""
    from psvae_tune.data.video import View, probe_video
    from psvae_tune.data.video_frames import iterate_frames

    info = probe_video(path)
    for _ in iterate_frames(info, View(info.whole, 32, 32), range(2, info.n_frames), []):
        pass


def read_model(path: Path) -> None:
    """As ``predict`` does."""
    from psvae_tune.models.model_file import load_model
    from psvae_tune.models.pyfunc import FramesToLatents

    saved = load_model(path)
    shape = saved.model.shape
    FramesToLatents(saved).predict(
        np.zeros((2, shape.n_channels, shape.height, shape.width), np.uint8), 0
    )


READERS = {
    "recording": read_recording,
    "data check": check_recording,
    "data check --html": picture_recording,
    "pose file": read_pose_file,
    "video": read_video,
    "model": read_model,
}

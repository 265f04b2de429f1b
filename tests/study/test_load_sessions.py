"""Recordings of a study are kept in memory as long as they fit."""

import pytest

from psvae_tune.cluster.nodes import Node, Nodes
from psvae_tune.data.demo import write_demo
from psvae_tune.data.streamed_frames import StoredFrames
from psvae_tune.study.load_sessions import STORE_SHARE, choose_streamed, read_sessions
from psvae_tune.study.plan import make_plan


@pytest.fixture
def plan(tmp_path):
    paths = [str(tmp_path / f"{seed}.h5") for seed in range(3)]
    for seed, (path, length) in enumerate(zip(paths, (20, 60, 20), strict=True)):
        write_demo(path, seed=seed, n_clips=10, clip_length=length, size=16)
    raw = {
        "experiment_name": "reading",
        "data": {"sessions": paths},
        "model": {"model_class": "ae", "n_ae_latents": 4},
        "search": {
            "space": {"n_ae_latents": {"grid_search": [4]}},
            "objectives": {"val/frame_mse": "min"},
        },
    }
    return make_plan(raw, "study.yaml")


def nodes(*frames):
    """Return nodes whose object stores have room for so many frames of 16×16 pixels."""
    return Nodes(
        tuple(
            Node(str(n), str(n), {"object_store_memory": n * 16**2 / STORE_SHARE + 1})
            for n in frames
        )
    )


def test_what_the_smallest_store_has_no_room_for_stays_in_its_file(plan):
    small, large, other = (header.path for header in plan.headers)
    assert choose_streamed(plan) == ()
    assert choose_streamed(plan, nodes(1000, 2000)) == ()
    assert choose_streamed(plan, nodes(400, 2000)) == (large,)
    assert choose_streamed(plan, nodes(399, 2000)) == (large, other)
    assert choose_streamed(plan, nodes(199)) == (small, large, other)


def test_only_what_stays_in_its_file_is_not_read_into_memory(plan):
    told = []
    sessions = read_sessions(plan, [plan.headers[1].path], told.append)
    kinds = [isinstance(session.frames, StoredFrames) for session in sessions]
    assert kinds == [False, True, False]
    assert told[-1] == 1000

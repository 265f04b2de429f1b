"""The search-space files that come with the project."""

import pytest

from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.config.study_file import read_study_file
from psvae_tune.study.plan import make_plan


@pytest.mark.parametrize("name", [name.replace("-", "_") for name in MODEL_CONFIGS])
def test_every_model_has_a_file_that_is_accepted(root, name):
    path = root / "search_spaces" / f"{name}.yaml"
    plan = make_plan(read_study_file(path), str(path))
    assert plan.study.base.model.model_class.replace("-", "_") == name
    assert all(header.n_frames == 1600 for header in plan.headers)


def test_no_file_is_forgotten(root):
    for path in (root / "search_spaces").glob("*.yaml"):
        make_plan(read_study_file(path), str(path))

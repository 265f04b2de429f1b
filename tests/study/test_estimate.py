"""The epochs of a study are counted before it runs."""

import pytest

from psvae_tune.config.study import parse_study
from psvae_tune.config.study_file import read_study_file
from psvae_tune.study.estimate import Estimate, estimate_epochs
from tests.support.study_texts import FILE, SAMPLED, changed

STAGE = FILE["search"]
GRID_OF_9 = {"ps_vae.alpha": {"grid_search": list(range(1, 10))}}


def estimate(search, n_slots=1):
    return estimate_epochs(parse_study(changed(["search"], search), "f.yaml", 4), n_slots)


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (STAGE, Estimate(40, 40)),
        (SAMPLED, Estimate(100, None)),
        (SAMPLED | {"num_epochs": 50}, Estimate(50, None)),
        (SAMPLED | {"num_trials": None, "num_epochs": 70}, Estimate(70, None)),
        (SAMPLED | {"num_trials": None, "time_budget_h": 1}, Estimate(None, None)),
        # 9 of 2 epochs, 3 of 7 and 1 of 20, instead of 9 of 20.
        (
            {**STAGE, "space": GRID_OF_9, "fidelity": "schedule"},
            Estimate(9 * 2 + 3 * 7 + 20, 180),
        ),
    ],
)
def test_stages_cost_what_they_may_train(search, expected):
    assert estimate(search) == expected


def test_the_guide_trains_nine_fits_of_forty_eight(root):
    raw = read_study_file(root / "search_spaces" / "ps_vae.yaml")
    found = estimate_epochs(parse_study(raw, "ps_vae.yaml", 4))
    assert found == Estimate((4 + 3 + 2) * 50, 4 * 4 * 3 * 50)
    found = estimate_epochs(parse_study(raw, "ps_vae.yaml", 4), n_slots=2)
    assert found.n_epochs == (2 + 2 + 1) * 50


def test_slots_are_of_use_within_a_stage_only():
    halved = {**STAGE, "space": GRID_OF_9, "fidelity": "schedule"}
    assert estimate(halved, 4).n_epochs == 3 * 2 + 7 + 20
    assert estimate(halved, 100).n_epochs == 2 + 7 + 20
    # Three fits of 20 epochs, the last cut off by the budget.
    assert estimate(SAMPLED | {"num_epochs": 50}, 2).n_epochs == 40
    assert estimate(SAMPLED | {"num_epochs": 50}, 4).n_epochs == 20

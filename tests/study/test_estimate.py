"""The epochs of a study are counted before it runs."""

import itertools
import math

import numpy as np
import pytest

from psvae_tune.config.study import parse_study
from psvae_tune.config.study_file import read_study_file
from psvae_tune.search.successive_halving import count_survivors, epoch_divisors
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
    raw = read_study_file(root / "search_spaces" / "ps_vae_published.yaml")
    found = estimate_epochs(parse_study(raw, "published", 4))
    assert found == Estimate((4 + 3 + 2) * 50, 4 * 4 * 3 * 50)
    found = estimate_epochs(parse_study(raw, "published", 4), n_slots=2)
    assert found.n_epochs == (2 + 2 + 1) * 50


def test_trials_that_go_on_have_lengths_of_their_own_and_count_as_others():
    goals = {"objectives": {"val/frame_mse": "min"}}
    space = {"ps_vae.alpha": {"grid_search": [10, 20, 40]}}
    start = {"name": "start", "space": {"ps_vae.alpha": {"grid_search": [10]}}, **goals}
    path = {"name": "path", "space": space, "start_from": "neighbour", "epochs": 6, **goals}
    fresh = {"name": "fresh", "space": space, **goals}
    n = FILE["training"]["max_n_epochs"]
    # The point of the first stage is not trained again; a fresh fit of another point is.
    assert estimate({"stages": [start, path]}).n_epochs == n + 2 * 6
    assert estimate({"stages": [start, path, fresh]}).n_epochs == n + 2 * 6 + 2 * n
    joint = {**path, "algorithm": "optuna", "num_trials": 5}
    joint["space"] = {"ps_vae.alpha": {"uniform": [1, 9]}}
    assert estimate({"stages": [start, joint]}).n_epochs == n + 5 * 6


def test_random_draws_that_repeat_each_other_may_cost_more():
    """Nine draws of eight values are eight trials at most, which have one round fewer."""
    space = {"ps_vae.alpha": {"choice": list(range(1, 9))}}
    search = {**STAGE, "algorithm": "random", "num_trials": 9, "space": space}
    assert estimate(search | {"fidelity": "schedule"}).n_epochs == 8 * 7 + 3 * 20


def test_slots_are_of_use_within_a_stage_only():
    halved = {**STAGE, "space": GRID_OF_9, "fidelity": "schedule"}
    assert estimate(halved, 4).n_epochs == 3 * 2 + 7 + 20
    assert estimate(halved, 100).n_epochs == 2 + 7 + 20
    # The last fit of 20 epochs begins when the slots have shared the other 30.
    assert estimate(SAMPLED | {"num_epochs": 50}, 2).n_epochs == 35
    assert estimate(SAMPLED | {"num_epochs": 50}, 4).n_epochs == 27


POOLS = {
    "ps_vae.alpha": [1, 2, 3],
    "ps_vae.beta": [1, 5, 10],
    "rng_seed_model": [0, 1, 2],
    "max_n_epochs": [20, 30, 50],
}
"""Values that random studies draw from; the first are those that a study starts from."""


def draw_stages(rng, n_stages, may_halve=False):
    """Draw stages that vary the same hyperparameters again and again."""
    stages = []
    for number in range(n_stages):
        halves = may_halve and rng.random() < 0.5
        pool = [name for name in POOLS if not (halves and name == "max_n_epochs")]
        space = {}
        for name in rng.choice(pool, rng.choice([1, 1, 2]), replace=False).tolist():
            values = rng.choice(POOLS[name], rng.integers(1, 4), replace=False)
            space[name] = {"grid_search": values.tolist()}
        stages.append({"name": f"s{number}", "space": space, "objectives": STAGE["objectives"]})
        if halves:
            stages[-1]["fidelity"] = {"schedule": {"reduction_factor": 2}}
    return stages


def possible_costs(stages, base, finished=frozenset()):
    """Yield the epochs of a study for every choice that its stages can make."""
    if not stages:
        yield 0
        return
    stage, *later = stages
    points = [{**base, **point} for point in stage.grid()]
    divisors = epoch_divisors(len(points), 2) if stage.fidelity else []
    for cost, in_full, done in trainings(stage, points, [*divisors, 1], finished):
        for chosen in in_full:
            for rest in possible_costs(later, chosen, done):
                yield cost + rest


def trainings(stage, points, divisors, finished):
    """Yield the epochs of a stage, its full trainings and all that is finished then."""
    divisor, *later = divisors
    short = [tuple(shorten(point, divisor).items()) for point in points]
    cost = sum(dict(item)["max_n_epochs"] for item in {*short} - finished)
    finished = finished | {*short}
    if not later:
        yield cost, points, finished
        return
    n_seeds = len({point["rng_seed_model"] for point in points})
    n_kept = count_survivors(len(points), 2, stage.select, n_seeds)
    for n_left in {math.ceil(len(points) / 2), n_kept}:
        for survivors in itertools.combinations(points, n_left):
            for more, in_full, done in trainings(stage, survivors, later, finished):
                yield cost + more, in_full, done


def shorten(point, divisor):
    n_epochs = max(1, round(point["max_n_epochs"] / divisor))
    return {**point, "max_n_epochs": n_epochs, "divided": divisor}


def largest_cost_and_estimate(stages, n_slots=1):
    raw = changed(["search"], {"stages": stages})
    raw["model"] |= {"ps_vae.alpha": 1, "rng_seed_model": 0}
    study = parse_study(raw, "f.yaml", 4)
    base = {name: study.base.params[name] for name in POOLS}
    return max(possible_costs(study.stages, base)), estimate_epochs(study, n_slots).n_epochs


@pytest.mark.parametrize("seed", range(100))
def test_two_stages_cost_the_most_that_they_can(seed):
    largest, found = largest_cost_and_estimate(draw_stages(np.random.default_rng(seed), 2))
    assert found == largest


@pytest.mark.parametrize("seed", range(20))
def test_stages_that_vary_nothing_again_cost_the_most_that_they_can(seed):
    rng = np.random.default_rng(seed)
    stages = []
    for name in rng.permutation(list(POOLS)).tolist():
        values = rng.choice(POOLS[name], rng.integers(1, 4), replace=False).tolist()
        space = {name: {"grid_search": values}}
        stages.append({"name": name[-4:], "space": space, "objectives": STAGE["objectives"]})
    largest, found = largest_cost_and_estimate(stages)
    assert found == largest


def test_more_stages_never_cost_more_than_is_said():
    """The estimate may be too large where it depends on the choices which trials are known."""
    n_exact = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        largest, found = largest_cost_and_estimate(draw_stages(rng, int(rng.integers(3, 5))))
        assert found >= largest, seed
        n_exact += found == largest
    assert n_exact >= 50


@pytest.mark.parametrize("seed", range(30))
def test_halved_stages_never_cost_more_than_is_said(seed):
    rng = np.random.default_rng(seed)
    largest, found = largest_cost_and_estimate(draw_stages(rng, 2, may_halve=True))
    assert found >= largest


def test_no_slot_trains_more_than_is_said_in_whatever_order_trials_begin():
    rng = np.random.default_rng(0)
    for _ in range(40):
        values = rng.choice(POOLS["max_n_epochs"], rng.integers(1, 4), replace=False)
        seeds = list(range(rng.integers(1, 3)))
        space = {"max_n_epochs": values.tolist(), "rng_seed_model": seeds}
        space = {name: {"grid_search": listed} for name, listed in space.items()}
        stage = {"name": "one", "space": space, "objectives": STAGE["objectives"]}
        epochs = [n for n in values.tolist() for _ in seeds]
        for n_slots in (1, 2, 3):
            _, found = largest_cost_and_estimate([stage], n_slots)
            busiest = max(busiest_slot(order, n_slots) for order in itertools.permutations(epochs))
            assert busiest <= found <= (sum(epochs) if n_slots == 1 else math.inf)
            if len(set(epochs)) == 1:
                assert found == busiest


def busiest_slot(epochs, n_slots):
    """Return when the last slot is free, if each takes the next trial once it is free."""
    free = [0] * n_slots
    for n_epochs in epochs:
        free[free.index(min(free))] += n_epochs
    return max(free)


def test_trials_that_a_scheduler_may_stop_are_trained_again():
    first = {"name": "one", "space": {"ps_vae.alpha": {"grid_search": [1, 2, 3]}}}
    second = {"name": "two", "space": {"ps_vae.alpha": {"grid_search": [1, 2, 3]}}}
    for stage in (first, second):
        stage["objectives"] = STAGE["objectives"]
    assert largest_cost_and_estimate([first, second]) == (60, 60)
    first["scheduler"] = "asha"
    # The choice of the first stage is finished, and the two others may have been stopped.
    assert largest_cost_and_estimate([first, second])[1] == 60 + 40


def test_the_grid_over_all_stages_holds_every_value_of_every_stage():
    first = {"space": {"ps_vae.alpha": {"grid_search": [1, 2]}}}
    second = {"space": {"ps_vae.alpha": {"grid_search": [2, 3.0]}, "max_n_epochs": {}}}
    second["space"]["max_n_epochs"]["grid_search"] = [20, 50]
    stages = [
        {"name": f"s{i}", "objectives": STAGE["objectives"], **stage}
        for i, stage in enumerate((first, second))
    ]
    study = parse_study(changed(["search"], {"stages": stages}), "f.yaml", 4)
    assert estimate_epochs(study).n_exhaustive == 3 * (20 + 50)

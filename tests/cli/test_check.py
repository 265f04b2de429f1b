"""The plan that ``check`` prints is what the study will do."""

import copy
import re

import pytest

from psvae_tune.cli.check import describe_plan
from psvae_tune.config.scheduler import Asha, rungs
from psvae_tune.config.study_file import read_study_file
from psvae_tune.errors import ConfigError
from psvae_tune.study.plan import make_plan

SHIPPED = [
    "ae",
    "beta_tcvae",
    "cond_ae",
    "cond_ae_msp",
    "cond_vae",
    "msps_vae",
    "ps_vae",
    "ps_vae_hidden",
    "ps_vae_optuna",
    "ps_vae_published",
    "vae",
]
WITH_ANNEALING = set(SHIPPED) - {"ae", "cond_ae", "cond_ae_msp"}


@pytest.fixture(scope="module")
def contents(root):
    return {name: read_study_file(root / "search_spaces" / f"{name}.yaml") for name in SHIPPED}


def test_every_shipped_file_is_looked_at(root, contents):
    assert sorted(contents) == sorted(p.stem for p in (root / "search_spaces").glob("*.yaml"))


def describe(raw):
    """Return the plan of a study, and its lines by their beginnings."""
    plan = make_plan(raw, "f.yaml")
    found = {}
    for line in describe_plan(plan):
        name, _, rest = line.strip().partition(": ")
        found.setdefault(name, []).append(rest)
    return plan, found


def with_early_stopping(raw, **settings):
    """Return a study that stops trials early in every stage in which it may."""
    raw = copy.deepcopy(raw)
    for stage in raw["search"].get("stages", [raw["search"]]):
        stage.pop("scheduler", None)
        before = dict(stage)
        stage.update(settings)
        try:
            make_plan(raw, "f.yaml")
        except ConfigError:
            stage.clear()
            stage.update(before)
    return raw


ASHA = [
    {},
    {"reduction_factor": 2},
    {"reduction_factor": 1.5},
    {"grace_period": 20},
    {"grace_period": 60},
    {"grace_period": 25, "reduction_factor": 1.2},
]


@pytest.mark.parametrize("asha", ASHA, ids=str)
@pytest.mark.parametrize("name", SHIPPED)
def test_the_epochs_of_early_stopping_are_those_of_the_rungs(contents, name, asha):
    plan, found = describe(with_early_stopping(contents[name], scheduler={"asha": asha}))
    base = plan.study.base
    assert (base.model.n_anneal_epochs > 0) == (name in WITH_ANNEALING)
    epochs = rungs(Asha(**asha), base.model.n_anneal_epochs, base.training.max_n_epochs)
    stages = [stage for stage in plan.study.stages if stage.scheduler]
    assert len(found.get("stopped early", [])) == len(stages)
    for line in found.get("stopped early", []):
        assert [int(number) for number in re.findall(r"\d+", line)] == epochs
    for line in found.get("never stopped", []):
        assert line.startswith(f"the best 1 in {asha.get('reduction_factor', 3):g}, the front, ")
    if name == "ae":
        assert stages


@pytest.mark.parametrize(
    ("model", "scheduler", "expected"),
    [
        ("ae", "median_stopping", "from epoch 20 on"),
        ("ae", {"median_stopping": {"grace_period": 10}}, "from epoch 10 on"),
        ("ae", {"asha": {"grace_period": 40}}, "at no epoch"),
        ("vae", {"asha": {"grace_period": 12}}, "at epoch 12 and 36"),
    ],
)
def test_what_is_stopped_and_when(contents, model, scheduler, expected):
    raw = copy.deepcopy(contents[model])
    raw["search"]["scheduler"] = scheduler
    _, found = describe(raw)
    assert found["stopped early"] == [expected]


def test_epochs_that_an_earlier_stage_chooses_are_all_told(contents):
    raw = copy.deepcopy(contents["vae"])
    first = {
        "name": "first",
        "objectives": {"val/frame_mse": "min"},
        "space": {
            "vae.beta_anneal_epochs": {"grid_search": [5, 30]},
            "max_n_epochs": {"grid_search": [40, 70]},
        },
    }
    second = {"name": "second", **raw["search"], "scheduler": "asha"}
    raw["search"] = {"stages": [first, second]}
    _, found = describe(raw)
    # Half the epochs, 20 or 35, or the end of an annealing of 30.
    assert found["stopped early"] == ["at epoch 20 or at epoch 30 or at epoch 35"]
    assert found["vae"] == ["up to 8 trials of up to 70 epochs"]


@pytest.mark.parametrize(
    ("values", "factor", "expected"),
    [
        (range(1, 10), 3, "at most 9 trials of 4 epochs, then 3 trials of 13 epochs"),
        (range(1, 5), 2, "at most 4 trials of 10 epochs, then 2 trials of 20 epochs"),
        ((1, 2), 3, "at most 2 trials of 40 epochs"),
    ],
)
def test_shorter_trainings_are_told_with_their_epochs(contents, values, factor, expected):
    raw = copy.deepcopy(contents["ae"])
    raw["search"]["space"]["n_ae_latents"]["grid_search"] = list(values)
    raw["search"]["fidelity"] = {"schedule": {"reduction_factor": factor}}
    _, found = describe(raw)
    (line,) = found["shorter first"]
    assert line == expected or line == f"{expected}, then 1 trial of 40 epochs"


def test_what_a_choice_requires_is_told(contents):
    _, found = describe(contents["ps_vae_optuna"])
    assert found["required"] == [
        "val/active_units all",
        "val/label_r2 >= 0.8, val/active_units all",
        "val/active_units all",
    ]

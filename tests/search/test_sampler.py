"""The suggestions of a stage do not change with a crash, and Optuna is told the truth."""

import math

import numpy as np
import pytest
from optuna.trial import TrialState

from psvae_tune.config.domain import Domain
from psvae_tune.config.stage import Stage
from psvae_tune.results.optuna_trial import to_distribution
from psvae_tune.search.sampler import StageSampler
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trial_spec import StageContext
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import StudyFolder
from tests.benchmarks import narrow_space
from tests.support.studies import make_config

SPACE = {
    "ps_vae.alpha": {"loguniform": [1, 1000]},
    "ps_vae.beta": {"choice": [1, 5, 10, 20]},
    "n_ae_latents": {"randint": [3, 9]},
}
TWO = {"val/frame_mse": "min", "val/label_r2": "max"}
SAMPLERS = [
    {"algorithm": "random"},
    {"algorithm": "optuna"},
    {"algorithm": "optuna", "sampler": "nsga2"},
    {"algorithm": "optuna", "sampler": "gp"},
]
SAMPLER_NAMES = ["random", "tpe", "nsga2", "gp"]


def make_stage_sampler(folder, config=None, require=None, **stage):
    raw = {"space": SPACE, "objectives": TWO, "algorithm": "optuna", "num_trials": 20}
    if require:
        raw["select"] = {"best": "val/frame_mse", "require": require}
    study = StudyFolder(folder / "study")
    nowhere = TrackingTarget("", "", "study")
    parsed = Stage.model_validate({**raw, **stage})
    context = StageContext(parsed, make_config(model=config or {}), study, nowhere, ("digest",), 2)
    return StageSampler(context, StageJournal(study, parsed.name, context.settings_id))


def end(sampler, spec, outcome="finished", epoch=4, **metrics):
    """Note an end, by default with numbers that follow from the hyperparameters."""
    alpha = spec.params.get("ps_vae.alpha", 1)
    found = {
        "val/frame_mse": 0.1 + 0.1 * math.log10(alpha),
        "val/label_r2": 1 - 1 / (1 + alpha),
        "val/active_units": 2.0,
    }
    sampler.journal.note_end(spec.trial_id, outcome, "", epoch, found | metrics)


def run_all(sampler, n=None):
    """Run a stage, or ``n`` trials of it, one trial after another; return what ran."""
    specs = []
    while (n is None or len(specs) < n) and (spec := sampler.ask()) is not None:
        specs.append(spec)
        end(sampler, spec)
    return specs


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"uniform": [0, 1]}, "FloatDistribution(high=1.0, log=False, low=0.0, step=None)"),
        ({"loguniform": [1, 9]}, "FloatDistribution(high=9.0, log=True, low=1.0, step=None)"),
        (
            {"quniform": [1, 2.2, 0.5]},
            "FloatDistribution(high=2.0, log=False, low=1.0, step=0.5)",
        ),
        ({"randint": [1, 9]}, "IntDistribution(high=8, log=False, low=1, step=1)"),
        ({"lograndint": [1, 9]}, "IntDistribution(high=8, log=True, low=1, step=1)"),
        (
            {"choice": [1, None, {"a": [2]}]},
            "CategoricalDistribution(choices=(1, None, '{\"a\": [2]}'))",
        ),
    ],
)
def test_domains_become_distributions(words, expected):
    assert str(to_distribution(Domain.model_validate(words))) == expected


@pytest.mark.parametrize("algorithm", SAMPLERS, ids=SAMPLER_NAMES)
def test_every_suggestion_is_in_the_space_and_runs_once(tmp_path, algorithm):
    sampler = make_stage_sampler(tmp_path, num_trials=11, **algorithm)
    specs = run_all(sampler)
    assert len({spec.trial_id for spec in specs}) == len(specs) == 11
    for spec in specs:
        for name, value in spec.params.items():
            assert sampler.stage.space[name].contains(value)
    assert sampler.budget() == "spent"
    assert sampler.unfinished() == []


@pytest.mark.parametrize("algorithm", SAMPLERS, ids=SAMPLER_NAMES)
def test_a_study_cut_off_anywhere_goes_on_as_if_it_had_not_been(tmp_path, algorithm):
    # Past the ten trials that samplers draw at random before they learn.
    whole = run_all(make_stage_sampler(tmp_path / "a", num_trials=13, **algorithm))
    first = run_all(make_stage_sampler(tmp_path / "b", num_trials=13, **algorithm), n=11)
    make_stage_sampler(tmp_path / "b", num_trials=13, **algorithm).ask()  # cut off while it runs
    second = make_stage_sampler(tmp_path / "b", num_trials=13, **algorithm)
    (cut_off,) = second.unfinished()
    end(second, cut_off)
    assert [*first, cut_off, *run_all(second)] == whole


def test_another_seed_suggests_something_else(tmp_path):
    one = make_stage_sampler(tmp_path / "a", seed=1).ask()
    two = make_stage_sampler(tmp_path / "b", seed=2).ask()
    assert one != two


def test_optuna_is_told_the_truth(tmp_path):
    sampler = make_stage_sampler(tmp_path, require={"val/label_r2": ">= 0.5"})
    outcomes = [
        ({"outcome": "finished"}, TrialState.COMPLETE),
        ({"outcome": "stopped"}, TrialState.PRUNED),
        ({"outcome": "failed"}, TrialState.FAIL),
        ({"val/frame_mse": math.nan}, TrialState.FAIL),
        ({"val/label_r2": math.inf}, TrialState.FAIL),
    ]
    for told, _ in outcomes:
        spec = sampler.ask()
        end(sampler, spec, told.pop("outcome", "finished"), **told)
    sampler.ask()
    trials = sampler.study().trials
    assert [trial.state for trial in trials] == [
        *(state for _, state in outcomes),
        TrialState.RUNNING,
    ]
    complete, *others = trials
    alpha = complete.params["ps_vae.alpha"]
    assert complete.values == pytest.approx([0.1 + 0.1 * math.log10(alpha), 1 - 1 / (1 + alpha)])
    assert complete.constraints["val/label_r2"] == pytest.approx(0.5 - complete.values[1])
    assert all(trial.values is None for trial in others)
    # A trial that was stopped is told to be infeasible if it was.
    stopped = trials[1]
    alpha = stopped.params["ps_vae.alpha"]
    assert stopped.constraints["val/label_r2"] == pytest.approx(0.5 - (1 - 1 / (1 + alpha)))


CORRELATION = "val/latent_correlation"


@pytest.mark.parametrize(
    ("objectives", "required"),
    [
        (["val/frame_mse", CORRELATION], {"val/active_units": ">= 2"}),
        (["val/frame_mse"], {CORRELATION: "<= 0.5", "val/active_units": ">= 2"}),
        (["val/frame_mse", CORRELATION], {}),
    ],
)
def test_a_finished_trial_that_lacks_a_metric_is_infeasible(tmp_path, objectives, required):
    """Latents that have collapsed have no correlation; a sampler must not take more of them."""
    goals = dict.fromkeys(objectives, "min")
    sampler = make_stage_sampler(tmp_path, objectives=goals, require=required)
    end(sampler, sampler.ask(), **{"val/active_units": 0.0})
    (trial,) = sampler.study().trials
    assert trial.state == TrialState.PRUNED
    missed = {key: 2 for key in required if key == "val/active_units"}
    assert trial.constraints == missed | {CORRELATION: 1}


def test_what_an_unfinished_trial_had_is_no_value(tmp_path):
    sampler = make_stage_sampler(tmp_path, objectives={"val/frame_mse": "min"})
    end(sampler, sampler.ask(), "stopped", epoch=3)
    (trial,) = sampler.study().trials
    assert trial.values is None
    assert list(trial.intermediate_values) == [3]


def test_all_units_means_those_of_the_trial(tmp_path):
    sampler = make_stage_sampler(tmp_path, require={"val/active_units": "all"})
    run_all(sampler, n=6)
    for trial in sampler.study().trials:
        n_unsupervised = trial.params["n_ae_latents"] - 2
        assert trial.constraints["val/active_units"] == n_unsupervised - 2


@pytest.mark.parametrize(
    ("name", "n_trials"), [("tpe", 36), ("nsga2", 48), ("gp", 18)], ids=SAMPLER_NAMES[1:]
)
def test_samplers_move_to_what_is_feasible_and_good(tmp_path, name, n_trials):
    # The error falls with alpha, and the requirement forbids alphas below 3.
    sampler = make_stage_sampler(
        tmp_path,
        space={name: SPACE[name] for name in ("ps_vae.alpha", "ps_vae.beta")},
        objectives={"val/frame_mse": "min"},
        require={"val/label_r2": ">= 0.75"},
        sampler=name,
        num_trials=n_trials,
    )
    alphas = np.log10([spec.params["ps_vae.alpha"] for spec in run_all(sampler)])
    distance = np.abs(alphas - np.log10(3))
    third = n_trials // 3
    assert np.median(distance[-third:]) < 0.75 * np.median(distance[:third])


def test_what_stopped_trials_lack_leads_to_what_is_feasible():
    """Of a space of which 3 % are feasible, where all else is stopped early."""
    told, untold = (
        [narrow_space.count_feasible(seed, is_told=is_told) for seed in range(6)]
        for is_told in (True, False)
    )
    assert told.count(0) <= 1
    assert untold.count(0) >= 3


@pytest.mark.parametrize("algorithm", SAMPLERS, ids=SAMPLER_NAMES)
def test_given_points_come_first_and_what_they_leave_out_is_sampled(tmp_path, algorithm):
    given = ({"ps_vae.alpha": 50, "ps_vae.beta": 1, "n_ae_latents": 4}, {"ps_vae.beta": 20})
    sampler = make_stage_sampler(tmp_path, points_to_evaluate=given, **algorithm)
    first, second, *_ = run_all(sampler, n=3)
    assert first.params == given[0]
    assert second.params["ps_vae.beta"] == 20
    assert set(second.params) == set(SPACE)


def test_a_small_space_is_searched_once_and_no_further(tmp_path):
    sampler = make_stage_sampler(tmp_path, space={"ps_vae.beta": {"choice": [1, 5, 10]}})
    specs = run_all(sampler)
    assert sorted(spec.params["ps_vae.beta"] for spec in specs) == [1, 5, 10]
    assert sampler.budget() == "spent"


def test_what_an_earlier_stage_finished_is_told_and_not_run(tmp_path):
    space = {"ps_vae.beta": {"choice": [1, 5, 10]}}
    earlier = make_stage_sampler(tmp_path, name="earlier", space=space)
    known = run_all(earlier, n=2)
    later = make_stage_sampler(tmp_path, name="later", space=space)
    ran = run_all(later)
    assert len(ran) == 1
    assert {spec.trial_id for spec in [*known, *ran]} == {p.trial_id for p in later.specs()}
    assert {trial.state for trial in later.study().trials} == {TrialState.COMPLETE}


OTHER_SETTINGS = [
    {"config": {"l2_reg": 0.1}},
    {"seed": 1},
    {"objectives": {"val/frame_mse": "min"}},
    {"space": {**SPACE, "ps_vae.beta": {"choice": [2, 3]}}},
    {"select": {"best": "val/label_r2"}},
]


@pytest.mark.parametrize("changed", OTHER_SETTINGS, ids=lambda changed: next(iter(changed)))
def test_what_happened_under_other_settings_does_not_count(tmp_path, changed):
    """Neither suggestions nor epochs: the budget of the stage is whole again."""
    budget = {"num_trials": None, "num_epochs": 12}
    ran = run_all(make_stage_sampler(tmp_path, **budget))
    other = make_stage_sampler(tmp_path, **{**budget, **changed})
    assert other.specs() == []
    assert len(run_all(other)) == len(ran) == 3


@pytest.mark.parametrize("params", [{"ps_vae.alpha": -5}, {"ps_vae.beta": 2}, {}])
def test_suggestions_of_another_space_do_not_count(tmp_path, params):
    """Events of the first version do not say which settings they belong to."""
    sampler = make_stage_sampler(tmp_path)
    told = {"params": params, "is_repeat": False, "system": {}, "hours": 0.1}
    sampler.journal.journal.append({"event": "ask", "stage": "search", "trial": "a", **told})
    assert len(run_all(sampler, 3)) == len(sampler.specs()) == 3


def test_a_choice_is_told_who_was_stopped(tmp_path):
    sampler = make_stage_sampler(tmp_path)
    outcomes = ("finished", "stopped", "failed")
    specs = [sampler.ask() for _ in outcomes]
    for spec, outcome in zip(specs, outcomes, strict=True):
        end(sampler, spec, outcome)
    results = sampler.context.results(specs, sampler.journal.trial_ends())
    assert [one.completed for one in results] == [True, False, False]
    assert [one.was_stopped for one in results] == [False, True, False]


def test_a_larger_budget_goes_on_with_what_there_is(tmp_path):
    ran = run_all(make_stage_sampler(tmp_path, num_trials=3))
    more = make_stage_sampler(tmp_path, num_trials=5)
    assert more.specs() == ran
    assert len(run_all(more)) == 2


def test_a_budget_of_epochs_counts_what_was_trained(tmp_path):
    # Trials of 4 epochs, stopped after 2: ten epochs are four trials, the last of 4.
    sampler = make_stage_sampler(tmp_path, num_trials=None, num_epochs=10)
    n_trials = 0
    while spec := sampler.ask():
        end(sampler, spec, "stopped", epoch=2)
        n_trials += 1
    assert n_trials == 4


def test_a_budget_of_epochs_waits_for_trials_that_run(tmp_path):
    sampler = make_stage_sampler(tmp_path, num_trials=None, num_epochs=10)
    first, second = sampler.ask(), sampler.ask()
    assert sampler.ask() is None
    assert sampler.budget() == "waiting"
    end(sampler, first, "stopped", epoch=2)
    assert sampler.budget() == "left"
    end(sampler, second)
    assert sampler.budget() == "left"


def test_a_budget_of_hours_goes_on_counting_after_a_crash(tmp_path):
    sampler = make_stage_sampler(tmp_path, num_trials=None, time_budget_h=1)
    assert sampler.budget() == "left"
    sampler.journal.journal.append({"event": "standing", "stage": "other", "hours": 9.0})
    end(sampler, sampler.ask())
    (*_, last) = sampler.journal.journal.events()
    sampler.journal.journal.append(last | {"hours": 2.0})
    assert make_stage_sampler(tmp_path, num_trials=None, time_budget_h=1).budget() == "spent"

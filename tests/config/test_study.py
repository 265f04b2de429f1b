import pytest

from psvae_tune.config.domain import Domain
from psvae_tune.config.study import parse_study
from psvae_tune.errors import ConfigError
from tests.support.study_texts import FILE, SAMPLED, changed


def problems(place, value, n_labels=4):
    with pytest.raises(ConfigError) as caught:
        parse_study(changed(place, value), "f.yaml", n_labels)
    return caught.value.problems


def test_one_stage_may_stand_alone():
    study = parse_study(FILE, "f.yaml", 4)
    (stage,) = study.stages
    assert stage.grid() == [{"ps_vae.alpha": 50}, {"ps_vae.alpha": 100}]
    assert stage.select.best == "val/label_r2"


def test_what_only_the_space_gives_starts_at_its_first_value():
    assert parse_study(FILE, "f.yaml", 4).base.model.alpha == 50


@pytest.mark.parametrize("n_labels", [4, 8])
def test_latents_may_be_counted_from_the_labels(n_labels):
    assert parse_study(FILE, "f.yaml", n_labels).base.model.n_ae_latents == n_labels + 2


def test_latents_in_a_space_are_counted_from_the_labels_too():
    raw = changed(["search", "space", "n_ae_latents"], {"grid_search": ["n_labels+1", 9]})
    stage = parse_study(raw, "f.yaml", 4).stages[0]
    assert stage.space["n_ae_latents"].values == (5, 9)


def test_the_grid_is_the_whole_product():
    raw = changed(["search", "space", "ps_vae.beta"], {"grid_search": [1, 5, 10]})
    assert len(parse_study(raw, "f.yaml", 4).stages[0].grid()) == 6


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["search"], None, "search: must be a stage"),
        (["search"], {"stages": []}, "search: must be one stage"),
        (["search", "space"], {}, "search.space: "),
        (["search", "space", "ps_vae.betta"], {"grid_search": [1]}, "did you mean `ps_vae.beta`"),
        (["search", "space", "model_class"], {"grid_search": ["ae"]}, "not a hyperparameter"),
        (["search", "space", "ps_vae.beta"], {"grid_search": []}, "`grid_search` is empty"),
        (
            ["search", "space", "ps_vae.beta"],
            {"grid_search": [1, 1]},
            "holds the same value twice, got 1 and 1",
        ),
        (["search", "space", "ps_vae.beta"], {"grid_search": ["x"]}, "valid number, unable"),
        (["search", "space", "ps_vae.beta"], {"grid_search": [-1]}, "greater than or equal to 0"),
        (["search", "space", "ps_vae.beta"], {"grid": [1]}, "`grid` is not a range"),
        (["search", "space", "ps_vae.beta"], 3, "must be one range"),
        (["search", "space", "ps_vae.beta"], {"uniform": [1, 2]}, "a grid takes `grid_search`"),
        (["search", "objectives"], {"val/labl_r2": "max"}, "did you mean `val/label_r2`"),
        (["search", "objectives"], {"val/loss": "min"}, "weighted loss cannot be compared"),
        (["search", "objectives"], {"val/projection": "min"}, "has no projection"),
        (["search", "objectives"], {"val/label_r2": "up"}, "should be 'min' or 'max'"),
        (["search", "algorithm"], "gird", "search.algorithm: "),
        (["search", "algorithm"], "random", "is a grid; use `choice`"),
        (["search", "scheduler"], {"asha": {"grace_period": 9}}, "at least ps_vae.anneal_epochs"),
        (["search", "num_trials"], 3, "the grid has 2 trials"),
        (["resources", "cpus_per_trial"], 0, "resources.cpus_per_trial: "),
        (["modle"], {}, "did you mean `model`"),
        (["training", "best_epoch_metric"], "val/hsic", "known only when a trial has ended"),
        (["experiment_name"], "../x", "experiment_name: "),
        (["model", "n_ae_latents"], 3, "model.n_ae_latents: must be at least 4 for 4 labels"),
    ],
)
def test_bad_files(place, value, message):
    found = problems(place, value)
    assert any(message in problem for problem in found), found


def test_a_grace_period_in_the_longest_annealing_of_the_space_is_refused():
    raw = changed(["search", "space", "ps_vae.anneal_epochs"], {"grid_search": [5, 15]})
    raw["search"]["scheduler"] = {"asha": {"grace_period": 10}}
    with pytest.raises(ConfigError, match=r"at least ps_vae.anneal_epochs \(15\), got 10"):
        parse_study(raw, "f.yaml", 4)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("uniform", [2, 1], "upside down"),
        ("uniform", [1], r"takes \[low, high\]"),
        ("uniform", [1, float("nan")], r"takes \[low, high\]"),
        ("uniform", [True, 2], r"takes \[low, high\]"),
        ("loguniform", [0, 1], "above 0"),
        ("randint", [1, 2.5], "whole numbers"),
        ("quniform", [0, 1], "step"),
        ("quniform", [0, 1, 0], "step"),
        ("choice", [], "empty"),
        ("choice", 3, "takes a list"),
    ],
)
def test_bad_ranges(kind, values, message):
    with pytest.raises(ValueError, match=message):
        Domain.model_validate({kind: values})


def test_stage_names_must_differ():
    stage = FILE["search"]
    raw = changed(["search"], {"stages": [{**stage, "name": "a"}, {**stage, "name": "a"}]})
    with pytest.raises(ConfigError, match="names must differ, got `a` 2 times"):
        parse_study(raw, "f.yaml", 4)


def test_problems_of_a_stage_bear_its_name():
    stage = {**FILE["search"], "name": "alpha", "objectives": {"val/nothing": "min"}}
    with pytest.raises(ConfigError, match=r"search\.stages\.alpha\.objectives"):
        parse_study(changed(["search"], {"stages": [stage]}), "f.yaml", 4)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"sampler": "gp", "num_trials": None, "num_epochs": 20},
        {"algorithm": "random", "time_budget_h": 0.5},
        {"points_to_evaluate": [{"ps_vae.alpha": 50, "ps_vae.beta": 5}, {"ps_vae.alpha": 99.5}]},
    ],
)
def test_sampling_stages(change):
    (stage,) = parse_study(changed(["search"], SAMPLED | change), "f.yaml", 4).stages
    for name, value in change.items():
        dumped = stage.model_dump(mode="json")[name]
        assert dumped == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_trials": None}, "needs a budget: one of num_trials, num_epochs, time_budget_h"),
        ({"num_epochs": 19}, "num_epochs: must be at least the 20 epochs of one trial, got 19"),
        ({"time_budget_h": 0}, "time_budget_h: input should be greater than 0"),
        ({"sampler": "cmaes"}, "sampler: "),
        ({"algorithm": "random", "sampler": "tpe"}, "takes no `sampler`"),
        ({"constraints": {"val/label_r2": ">= 0"}}, "write the bounds as `require` in `select`"),
        ({"points_to_evaluate": [{"ps_vae.alhpa": 60}]}, "did you mean `ps_vae.alpha`?"),
        ({"points_to_evaluate": [{"ps_vae.alpha": 5}]}, "ps_vae.alpha cannot be 5 in"),
        ({"points_to_evaluate": [{"ps_vae.beta": 2}]}, "ps_vae.beta cannot be 2 in"),
        ({"points_to_evaluate": [{"ps_vae.beta": True}]}, "ps_vae.beta cannot be True in"),
        ({"algorithm": "grid"}, "a grid takes `grid_search` only"),
    ],
)
def test_bad_sampling_stages(change, message):
    found = problems(["search"], SAMPLED | change)
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["search", "objectives"], {}),
        (["search", "sampler"], "tpe"),
        (["search", "space", "ps_vae.beta"], 3),
        (["search", "space", "ps_vae.alpha"], {"grid_search": []}),
        (["search"], {"spcae": FILE["search"]["space"], "objectives": {"val/frame_mse": "min"}}),
        (["search"], {"stages": [{**FILE["search"], "name": "a b"}]}),
        (["search"], [FILE["search"]]),
    ],
)
def test_what_an_invalid_stage_gives_is_not_said_to_be_missing(place, value):
    found = problems(place, value)
    assert found
    assert not any("is required" in one for one in found if one.startswith("model."))


def test_what_no_stage_gives_is_said_to_be_missing():
    search = {**FILE["search"], "sampler": "tpe", "space": {"ps_vae.beta": {"grid_search": [1]}}}
    found = problems(["search"], search)
    assert "model.ps_vae.alpha: is required" in found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_epochs": 100}, "takes no `num_epochs`"),
        ({"time_budget_h": 1}, "takes no `time_budget_h`"),
        ({"points_to_evaluate": [{"ps_vae.alpha": 50}]}, "takes no `points_to_evaluate`"),
        ({"sampler": "tpe"}, "takes no `sampler`; use `optuna`"),
        ({"algorithm": "optuna", "num_trials": 3}, "ps_vae.alpha is a grid; use `choice`"),
    ],
)
def test_a_grid_takes_nothing_that_samples(change, message):
    found = problems(["search"], FILE["search"] | change)
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("words", "inside", "outside"),
    [
        ({"uniform": [0, 1]}, [0, 0.5, 1], [-0.1, 1.1, "a", None, True, float("nan")]),
        ({"randint": [1, 4]}, [1, 3], [0, 4, 1.5, True]),
        ({"quniform": [1, 2, 0.25]}, [1, 1.75, 2.0], [1.1, 2.25]),
        ({"choice": [1, "a", None]}, [1, "a", None], [True, "b", 0]),
    ],
)
def test_a_domain_knows_its_values(words, inside, outside):
    domain = Domain.model_validate(words)
    assert all(map(domain.contains, inside))
    assert not any(map(domain.contains, outside))


HSIC, MSE = "val/hsic", "val/frame_mse"
LEAST = {"then": {HSIC: "min"}}
SEEDS = {"rng_seed_model": {"grid_search": [0, 1]}}


@pytest.mark.parametrize(
    "change",
    [
        {"objectives": {HSIC: "min"}, "select": {"best": MSE}},
        {"select": {"best": HSIC}},
        {"select": {"within": {"metric": HSIC, "tolerance": 0.1}, "then": {MSE: "min"}}},
        {"select": {"knee": [MSE, HSIC]}},
        {"select": {"pareto": [MSE, HSIC], **LEAST}},
        {"select": {"chebyshev": {MSE: 1, HSIC: 1}}},
        {"select": {"best": MSE, "require": {HSIC: "<= 0.1"}}},
        {"space": SEEDS, "select": {"best": "udr"}},
    ],
)
@pytest.mark.parametrize("scheduler", ["asha", "median_stopping"])
def test_what_is_known_at_the_end_cannot_stop_a_trial(change, scheduler):
    stage = {**FILE["search"], "objectives": {MSE: "min"}, **change}
    if "space" in change:
        stage["space"] = {"ps_vae.alpha": {"grid_search": [50]}, **change["space"]}
    assert parse_study(changed(["search"], stage), "f.yaml", 4)
    problem, *_ = problems(["search"], {**stage, "scheduler": scheduler})
    assert problem.startswith("search.scheduler: compares trials while they run, and a metric is ")


@pytest.mark.parametrize("scheduler", ["asha", "median_stopping"])
def test_what_decides_last_may_be_known_at_the_end(scheduler):
    rule = {"within": {"metric": MSE, "tolerance": 0.1}, **LEAST}
    stage = {**FILE["search"], "objectives": {MSE: "min"}, "select": rule, "scheduler": scheduler}
    assert parse_study(changed(["search"], stage), "f.yaml", 4)


@pytest.mark.parametrize("sampler", ["nsga2", "gp"])
def test_samplers_that_learn_from_finished_trials_go_with_no_scheduler(sampler):
    change = {"sampler": sampler, "scheduler": "asha"}
    (problem,) = problems(["search"], SAMPLED | change)
    assert problem.startswith("search.scheduler: leaves few finished trials")
    assert parse_study(changed(["search"], SAMPLED | change | {"sampler": "tpe"}), "f.yaml", 4)


def test_trials_of_several_lengths_are_not_compared_while_they_run():
    lengths = {"max_n_epochs": {"grid_search": [20, 40]}}
    stage = {**FILE["search"], "space": {**FILE["search"]["space"], **lengths}}
    assert parse_study(changed(["search"], stage), "f.yaml", 4)
    (problem,) = problems(["search"], {**stage, "scheduler": "asha"})
    assert problem.startswith("search.scheduler: compares trials of one length")


def test_a_mean_over_seeds_is_not_known_from_one_of_them():
    stage = {**FILE["search"], "space": {**FILE["search"]["space"], **SEEDS}, "scheduler": "asha"}
    (problem,) = problems(["search"], stage)
    assert "means over rng_seed_model; vary that in a stage of its own" in problem
    assert parse_study(changed(["search"], {**stage, "scheduler": None}), "f.yaml", 4)


def test_shorter_trainings_have_no_agreement_of_seeds():
    stage = {**FILE["search"], "space": {**FILE["search"]["space"], **SEEDS}}
    stage |= {"select": {"best": "udr"}, "fidelity": "schedule"}
    (problem,) = problems(["search"], stage)
    assert problem == "search.fidelity: drops trials before there is a 'udr' to choose by"


ALPHA = FILE["search"]["space"]


@pytest.mark.parametrize("word", ["schedule", {"schedule": {"reduction_factor": 3}}])
def test_a_stage_may_halve_by_shorter_schedules(word):
    stage = {**FILE["search"], "fidelity": word}
    parsed = parse_study(changed(["search"], stage), "f.yaml", 4).stages[0]
    assert parsed.fidelity.schedule.reduction_factor == 3


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (FILE["search"] | {"scheduler": {"asha": {}}}, "give one of them"),
        (SAMPLED, "needs all points at the start"),
        (
            SAMPLED | {"algorithm": "random", "num_trials": None, "num_epochs": 100},
            "takes its budget in num_trials",
        ),
        (
            {
                **FILE["search"],
                "space": {**ALPHA, "ps_vae.anneal_epochs": {"grid_search": [5, 10]}},
            },
            "the schedule sets ps_vae.anneal_epochs, which the space varies",
        ),
        (
            {**FILE["search"], "space": {**ALPHA, "max_n_epochs": {"grid_search": [15, 20]}}},
            "the schedule sets max_n_epochs, which the space varies",
        ),
    ],
)
def test_schedules_that_cannot_be(stage, message):
    found = problems(["search"], {**stage, "fidelity": "schedule"})
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("scheduler", "kind"),
    [
        ("asha", "asha"),
        ({"asha": None}, "asha"),
        ("median_stopping", "median_stopping"),
        ({"median_stopping": {"min_trials": 5, "grace_period": 10}}, "median_stopping"),
    ],
)
def test_schedulers_by_name(scheduler, kind):
    raw = changed(["search"], FILE["search"] | {"scheduler": scheduler})
    (stage,) = parse_study(raw, "f.yaml", 4).stages
    assert getattr(stage.scheduler, kind) is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheduler": "hyperband"}, "`hyperband` is not offered: it compares trials inside"),
        ({"scheduler": {"pbt": {}}}, "`pbt` is not offered: it changes hyperparameters"),
        ({"scheduler": "asah"}, "scheduler.asah: not a known setting"),
        ({"scheduler": {"asha": {}, "median_stopping": {}}}, "must hold exactly one of `asha`"),
        ({"scheduler": {"median_stopping": {"grace_period": 3}}}, "grace_period must be at least"),
        (
            {
                "scheduler": "median_stopping",
                "objectives": {"val/label_r2": "max", "val/frame_mse": "min"},
            },
            "`median_stopping` compares one objective",
        ),
    ],
)
def test_schedulers_that_cannot_be(change, message):
    found = problems(["search"], FILE["search"] | change)
    assert any(message in problem for problem in found), found

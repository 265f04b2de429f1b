"""A stage that cannot end in a choice is refused before anything is trained."""

import copy

import pytest
import yaml

from psvae_tune.config.study import parse_study
from psvae_tune.errors import ConfigError
from tests.support.study_texts import FILE


def parse(text, metric="val/frame_mse"):
    """Parse the file of the tests with some sections changed by a text in YAML."""
    raw = copy.deepcopy(FILE)
    for section, changed in yaml.safe_load(text.replace("METRIC", metric)).items():
        raw[section] = raw[section] | changed
    return parse_study(raw, "f.yaml", 4)


def problems(text, metric="val/frame_mse"):
    with pytest.raises(ConfigError) as caught:
        parse(text, metric)
    return list(caught.value.problems)


CHOOSING = {
    "search.objectives": "search: {objectives: {METRIC: min}, select: {best: val/label_r2}}",
    "search.select: best": "search: {select: {best: METRIC}}",
    "search.select: within": "search: {select: {within: {metric: METRIC, tolerance: 0.1},"
    " then: {ps_vae.alpha: min}}}",
    "search.select: knee": "search: {select: {knee: [METRIC, val/label_r2]}}",
    "search.select: pareto": "search: {select: {pareto: [val/label_r2, METRIC],"
    " then: {ps_vae.alpha: min}}}",
    "search.select: chebyshev": "search: {select: {chebyshev: {METRIC: 1, val/label_r2: 2}}}",
    "search.select: then": "search: {select: {pareto: [val/label_mse, val/label_r2],"
    " then: {METRIC: min}}}",
    "search.select: require": "search: {select: {best: val/label_r2, require: {METRIC: <= 1}}}",
    "training.best_epoch_metric": "training: {best_epoch_metric: METRIC}",
}
"""Every place of a metric that something is chosen by, with an example."""


@pytest.mark.parametrize("split", ["test", "train"])
@pytest.mark.parametrize("place", CHOOSING)
def test_only_validation_metrics_choose(place, split):
    parse(CHOOSING[place])
    assert problems(CHOOSING[place], f"{split}/frame_mse") == [
        f"{place}: only validation metrics may choose, got '{split}/frame_mse'; "
        "use `val/frame_mse`"
    ]


COMPARED = "{within: {metric: val/label_r2, tolerance: 0.1}, then: {NAME: min}}"


@pytest.mark.parametrize(
    ("name", "values", "others"),
    [
        (
            "best_epoch_metric",
            "[val/frame_mse, val/label_r2]",
            "'val/frame_mse' and 'val/label_r2'",
        ),
        ("enable_early_stop", "[true, false]", "True and False"),
        ("enable_early_stop", "[1, 0]", "True and False"),
        ("micro_batch_size", "[10, null]", "None"),
        ("precision", "[auto, float32]", "'auto' and 'float32'"),
        ("ae_arch_json", "[null, {ae_padding_type: valid}]", "'{"),
        ("ps_vae.alpha", "[1, 2.5, '3']", None),
        ("rng_seed_model", "[0, 1]", None),
    ],
)
def test_trials_are_compared_by_numbers_alone(name, values, others):
    text = f"search: {{space: {{{name}: {{grid_search: {values}}}}}, select: {COMPARED}}}"
    text = text.replace("NAME", name)
    if others is None:
        parse(f"model: {{ps_vae.alpha: 1}}\n{text}")
    else:
        (problem,) = problems(f"model: {{ps_vae.alpha: 1}}\n{text}")
        assert problem.startswith(
            f"search.select: then: compares numbers, got '{name}' with {others}"
        )


@pytest.mark.parametrize(
    "space",
    [
        "rng_seed_model: {grid_search: [3]}",
        "ps_vae.alpha: {grid_search: [50, 100]}",
        "rng_seed_model: {randint: [0, 1]}, ps_vae.alpha: {uniform: [1, 2]}",
    ],
)
@pytest.mark.parametrize(
    "rule",
    [
        "{best: udr}",
        "{within: {metric: udr, tolerance: 0.1}, then: {val/frame_mse: min}}",
        "{pareto: [val/frame_mse, val/label_r2], then: {udr: max}}",
        "{best: val/frame_mse, require: {udr: '>= 0.5'}}",
        "{knee: [udr, val/frame_mse]}",
        "{chebyshev: {udr: 1, val/frame_mse: 1}}",
        "{within: {metric: val/label_r2, tolerance: one_standard_error}, then: {udr: max}}",
    ],
)
def test_what_compares_seeds_needs_several(space, rule):
    how = "{algorithm: random, num_trials: 2" if "int" in space else "{algorithm: grid"
    text = f"model: {{ps_vae.alpha: 1}}\nsearch: {how}, space: {{{space}}}, select: {rule}}}"
    for problem in problems(text):
        assert "needs a stage with several values of rng_seed_model, got " in problem
    parse(
        f"model: {{ps_vae.alpha: 1}}\n"
        f"search: {{space: {{rng_seed_model: {{grid_search: [0, 1]}}}}, select: {rule}}}"
    )


@pytest.mark.parametrize(
    ("key", "bound", "never"),
    [
        ("val/label_r2", ">= 80", "above 1"),
        ("udr", ">= 1.5", "above 1"),
        ("val/frame_mse", "<= -0.5", "below 0"),
        ("val/label_r2", ">= 1", None),
        ("val/label_r2", "<= -3", None),
        ("val/frame_mse", ">= 2", None),
    ],
)
def test_a_bound_that_no_trial_can_meet_is_refused(key, bound, never):
    space = "{rng_seed_model: {grid_search: [0, 1]}}"
    text = (
        "model: {ps_vae.alpha: 1}\n"
        f"search: {{space: {space}, select: {{best: val/tc, require: {{{key}: '{bound}'}}}}}}"
    )
    if never is None:
        parse(text)
    else:
        assert len(found := problems(text)) == 1
        assert f"`{key}` is never {never}, got '" in found[0]


STAGES = """
model: {ps_vae.alpha: 1}
search:
  stages:
    - {name: one, objectives: {val/label_r2: max}, space: {FIRST}}
    - {name: two, objectives: {val/label_r2: max}, space: {SECOND}, MORE}
"""


def two_stages(first, second="ps_vae.alpha: {grid_search: [50, 100]}", more="seed: 0"):
    text = STAGES.replace("FIRST", first).replace("SECOND", second).replace("MORE", more)
    raw = copy.deepcopy(FILE) | {"search": {}}
    for section, changed in yaml.safe_load(text).items():
        raw[section] = raw[section] | changed
    return raw


@pytest.mark.parametrize(
    ("first", "more", "message"),
    [
        (
            "ps_vae.anneal_epochs: {grid_search: [5, 15]}",
            "scheduler: {asha: {grace_period: 12}}",
            "grace_period must be at least ps_vae.anneal_epochs (15), got 12",
        ),
        (
            "max_n_epochs: {grid_search: [10, 30]}",
            "algorithm: random, num_epochs: 25",
            "num_epochs: must be at least the 30 epochs of one trial, got 25",
        ),
    ],
)
def test_a_stage_may_start_from_any_choice_of_the_stage_before(first, more, message):
    second = "ps_vae.alpha: {grid_search: [50, 100]}"
    if "random" in more:
        second = second.replace("grid_search", "choice")
    with pytest.raises(ConfigError) as caught:
        parse_study(two_stages(first, second, more), "f.yaml", 4)
    assert [message in problem for problem in caught.value.problems] == [True]
    # A stage that varies the same again starts from its own values.
    if "grid_search" in second:
        again = f"{second}, {first.replace('15', '12')}"
        parse_study(two_stages(first, again, more), "f.yaml", 4)


LATENTS = "n_ae_latents"
SPELLINGS = [
    ("ps_vae.beta", "[1, 5, 1.0]", "1 and 1.0"),
    ("ps_vae.beta", "[0.5, '0.5']", "0.5 and '0.5'"),
    ("ps_vae.beta", "[1, true]", "1 and True"),
    (LATENTS, "[6, 8, n_labels + 2]", "6 and 6"),
    (LATENTS, "[6, 6.0]", "6 and 6.0"),
    ("fit_sess_io_layers", "[true, 1]", "True and 1"),
    ("fit_sess_io_layers", "[false, 'no']", "False and 'no'"),
    ("micro_batch_size", "[null, 4, 4.0]", "4 and 4.0"),
    ("ae_arch_json", "[null, {}]", "None and {}"),
    (
        "ae_arch_json",
        "[{ae_padding_type: valid, ae_batch_norm: false},"
        " {ae_batch_norm: 0, ae_padding_type: valid}]",
        "{'ae_padding_type': 'valid', 'ae_batch_norm': False} and ",
    ),
]


@pytest.mark.parametrize("algorithm", ["grid", "random", "optuna"])
@pytest.mark.parametrize(("name", "values", "same"), SPELLINGS)
def test_two_spellings_of_one_value_are_refused(algorithm, name, values, same):
    kind = "grid_search" if algorithm == "grid" else "choice, num_trials: 2"
    kind, _, budget = kind.partition(", ")
    space = f"{{{name}: {{{kind}: {values}}}}}"
    text = f"model: {{ps_vae.alpha: 1}}\nsearch: {{algorithm: {algorithm}, space: {space}"
    (problem,) = problems(f"{text}, {budget}}}")
    assert problem.startswith(
        f"search.space.{name}: `{kind}` holds the same value twice, got {same}"
    )


def test_values_that_differ_are_taken_however_they_are_spelled():
    parse("search: {space: {ps_vae.alpha: {grid_search: [1, 1.5, '2', 1.0e+3]}}}")
    # Two labels may make them equal, but there are four.
    raw = copy.deepcopy(FILE)
    raw["search"]["space"] = {LATENTS: {"grid_search": [4, "n_labels + 4"]}}
    raw["model"]["ps_vae.alpha"] = 1
    parse_study(raw, "f.yaml")
    parse_study(raw, "f.yaml", 4)


def test_what_changes_no_trial_is_not_searched():
    text = "model: {ps_vae.alpha: 1}\nsearch: {space: {checkpoint_every: {grid_search: [5, 10]}}}"
    assert problems(text) == [
        "search.space.checkpoint_every: is not searched, because it changes no number of a trial"
    ]


@pytest.mark.parametrize(
    ("name", "domain", "is_taken"),
    [
        (LATENTS, "{uniform: [6, 8]}", False),
        (LATENTS, "{loguniform: [6, 12]}", False),
        (LATENTS, "{quniform: [6, 9, 1.5]}", False),
        (LATENTS, "{quniform: [6, 10, 2]}", True),
        (LATENTS, "{randint: [6, 9]}", True),
        (LATENTS, "{lograndint: [6, 9]}", True),
        ("max_n_epochs", "{uniform: [20, 40]}", False),
        ("fit_sess_io_layers", "{uniform: [0, 1]}", False),
        ("ps_vae.beta", "{uniform: [1, 20]}", True),
    ],
)
def test_a_range_of_what_are_whole_numbers_gives_whole_numbers(name, domain, is_taken):
    text = (
        "model: {ps_vae.alpha: 1}\n"
        f"search: {{algorithm: random, num_trials: 4, space: {{{name}: {domain}}}}}"
    )
    if is_taken:
        parse(text)
    else:
        (problem,) = problems(text)
        assert problem.startswith(f"search.space.{name}: ")
        assert problem.endswith("may draw; use `randint` or `choice`")


EPOCHS = "max_n_epochs: {grid_search: [15, 30]}"
ANNEALING = "ps_vae.anneal_epochs: {grid_search: [5, 20]}"


TOGETHER = (
    "max_n_epochs 15 and ps_vae.anneal_epochs 20 do not go together, training.max_n_epochs: must "
    "be at least the 20 epochs of annealing, got 15"
)


def test_values_that_go_alone_but_not_together_are_refused():
    text = f"model: {{ps_vae.alpha: 1}}\nsearch: {{space: {{{EPOCHS}, {ANNEALING}}}}}"
    assert problems(text) == [f"search.space: {TOGETHER}"]
    parse(text.replace("20]", "15]"))


def test_values_of_a_stage_go_with_every_choice_of_the_stage_before():
    with pytest.raises(ConfigError) as caught:
        parse_study(two_stages(EPOCHS, ANNEALING), "f.yaml", 4)
    assert caught.value.problems == (f"search.stages.two.space: {TOGETHER}",)
    again = EPOCHS.replace("15", "20")
    parse_study(two_stages(EPOCHS, f"{ANNEALING}, {again}"), "f.yaml", 4)

"""Trials that go on from others: what a study file may ask for, and what such a trial is."""

import pytest

from psvae_tune.config.continuation import Continuation
from psvae_tune.config.stage import Stage
from psvae_tune.config.stage_settings import (
    EPOCHS,
    max_anneal_epochs,
    max_trial_epochs,
    possible_settings,
)
from psvae_tune.config.study import parse_study
from psvae_tune.errors import ConfigError
from tests.support.studies import make_config

FIRST = {
    "name": "start",
    "space": {"ps_vae.alpha": {"grid_search": [10]}},
    "objectives": {"val/frame_mse": "min"},
}
PATH = {
    "name": "path",
    "space": {"ps_vae.alpha": {"grid_search": [10, 100]}},
    "objectives": {"val/frame_mse": "min"},
    "start_from": "neighbour",
    "epochs": 6,
}


def study(*stages, model=None):
    raw = {
        "experiment_name": "test",
        "model": {
            "model_class": "ps-vae",
            "n_ae_latents": 4,
            "ps_vae.alpha": 10,
            "ps_vae.beta": 1,
            "ps_vae.anneal_epochs": 20,
            **(model or {}),
        },
        "training": {"max_n_epochs": 50},
        "search": {"stages": list(stages)},
    }
    return parse_study(raw, "study.yaml", n_labels=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_from": "parent"}, "start_from: input should be 'chosen' or 'neighbour'"),
        ({"epochs": None}, "`start_from` needs `epochs`"),
        ({"epochs": 0}, "epochs: input should be greater than or equal to 1, got 0"),
        ({"ramp_epochs": 7}, "ramp_epochs: must be at most the 6 epochs, got 7"),
        ({"start_from": None, "ramp_epochs": 1}, "`epochs` is for trials with `start_from`"),
        ({"fidelity": "schedule"}, "`fidelity` shortens trainings from new weights"),
        ({"scheduler": "asha"}, "`scheduler` stops trials that others would start from"),
        (
            {"scheduler": {"asha": {"grace_period": 1}}, "start_from": "chosen"},
            r"grace_period must be at least ramp_epochs \(2\), got 1",
        ),
        (
            {"space": {"n_ae_latents": {"grid_search": [4, 5]}}},
            r"space.n_ae_latents: cannot vary with `start_from`, .*ps_vae.alpha and ps_vae.beta",
        ),
        (
            {"space": {"rng_seed_model": {"grid_search": [0, 1]}}},
            "space.rng_seed_model: cannot vary with `start_from`",
        ),
    ],
)
def test_a_stage_that_cannot_go_on_from_another_is_refused_before_training(changes, message):
    with pytest.raises(ConfigError, match=message):
        study(FIRST, {**PATH, **changes})


def test_the_first_stage_has_nothing_to_go_on_from():
    with pytest.raises(ConfigError, match=r"stages.path.start_from: there is no stage before"):
        study(PATH)


def test_a_model_without_weights_cannot_vary_any():
    stage = {**PATH, "space": {"learning_rate": {"grid_search": [0.1, 0.01]}}}
    first = {**FIRST, "space": {"learning_rate": {"grid_search": [0.1]}}}
    raw = {"model_class": "ae", "n_ae_latents": 2}
    search = {"stages": [first, stage]}
    with pytest.raises(ConfigError, match=r"only weights of the loss can \(none here\)"):
        parse_study({"experiment_name": "x", "model": raw, "search": search}, "study.yaml")


def test_the_trials_of_such_a_stage_have_lengths_of_their_own():
    whole = study(FIRST, PATH, {**FIRST, "name": "end"})
    first, path, last = possible_settings(whole.stages, whole.base)
    assert [settings[EPOCHS] for settings in (first, path, last)] == [(50,), (6,), (50,)]
    stage = whole.stages[1]
    assert (max_trial_epochs(stage, whole.base), max_anneal_epochs(stage, whole.base)) == (6, 2)
    assert Stage.model_validate({**PATH, "ramp_epochs": 0}).n_ramp_epochs == 0


def test_a_continued_trial_anneals_nothing_but_its_ramp():
    warm = {"ps_vae.alpha_start": 5, "ps_vae.alpha_anneal_epochs": 3}
    base = make_config(model=warm)
    there = Continuation(
        parent="a", weights={"ps_vae.alpha": 10, "ps_vae.beta": 0}, n_epochs=9, n_ramp_epochs=4
    )
    config = base.with_params({"ps_vae.alpha": 40}).continued(there)
    assert (config.training.max_n_epochs, config.n_anneal_epochs) == (9, 4)
    assert config.model.kl_anneal_epochs == 0
    (ramp,) = config.warm_ups  # there is no ratio between beta 0 and 2
    assert (ramp.terms, ramp.weight) == (("labels_nll",), 40)
    assert [40 * ramp.factor(epoch) for epoch in (2, 4, 9)] == pytest.approx([20, 40, 40])
    assert config.params["ramp_epochs"] == 4
    assert "ramp_epochs" not in base.params


def test_the_trial_that_is_gone_on_from_is_a_part_of_the_identity():
    base = make_config()
    one = {"weights": {"ps_vae.alpha": 10, "ps_vae.beta": 2}, "n_epochs": 4, "n_ramp_epochs": 1}
    others = [
        {**one, "parent": "a"},
        {**one, "parent": "b"},
        {**one, "parent": "a", "n_ramp_epochs": 2},
        {**one, "parent": "a", "n_epochs": 5},
        {**one, "parent": "a", "weights": {"ps_vae.alpha": 11, "ps_vae.beta": 2}},
    ]
    ids = [base.continued(Continuation(**other)).trial_id(["x"]) for other in others]
    assert len({*ids, base.trial_id(["x"])}) == 6

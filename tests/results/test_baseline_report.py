"""A trial beside the baselines of its study, and the warnings with which it is recommended."""

from dataclasses import replace

import pytest

from psvae_tune.results.baseline_report import describe_baselines, list_warnings, name_baselines
from psvae_tune.results.logged_study import LoggedStudy
from psvae_tune.results.report_data import explain_choice
from psvae_tune.results.trial_record import TrialRecord
from psvae_tune.tracking.client import TrackingTarget

BASELINES = {
    "baseline/ridge_label_r2": 0.81,
    "baseline/pca_frame_mse": 0.0044,
    "baseline/residual_pca_frame_mse": 0.005,
    "baseline/mean_frame_mse": 0.007,
    "baseline/n_unsupervised": 2.0,
}
GOOD = {
    "best/epoch": 9.0,
    "best/frame_mse": 0.0041,
    "best/label_r2": 0.83,
    "best/leak_r2": 0.05,
    "best/active_units": 2.0,
}


class StoredStudy(LoggedStudy):
    """A study without files."""

    def read_artifact(self, run_id, path):
        """Return nothing."""


def study_of(metrics, baselines=BASELINES, **params):
    base = {"n_ae_latents": 10, "model_class": "ps-vae"}
    trial = TrialRecord("r", "t", "a", "s", "FINISHED", "", base | params, metrics, True)
    target = TrackingTarget("sqlite:///absent.db", "0", "study")
    return StoredStudy(target, "run", "FINISHED", "x", base, (trial,), metrics=baselines), trial


def test_a_good_trial_has_one_sentence_with_the_numbers_and_no_warning():
    study, trial = study_of(GOOD)
    assert list_warnings(study, trial) == []
    (sentence,) = describe_baselines(study, trial)
    assert sentence == (
        "Beside what needs no network: label R² 0.83, ridge regression on the pixels has 0.81; "
        "frame MSE 0.0041, PCA with 10 components has 0.0044, a regression on the labels with "
        "2 components of the rest has 0.005, the mean frame has 0.007."
    )
    assert explain_choice(study)[0].endswith("on the validation split).")


def test_hidden_labels_are_compared_with_components_of_what_the_others_leave():
    """Where parts are hidden in turn, a trial is compared in those that it does not see."""
    hidden = {
        "baseline/components_hidden_correlation": 0.5,
        "baseline/components_hidden_correlation/paw_x": 0.7,
        "baseline/components_hidden_correlation/paw_y": 0.8,
        "baseline/components_hidden_correlation/tail_x": 0.0,
    }
    params = {"hidden_labels": '["paw_x", "paw_y"]'}
    found = GOOD | {"best/hidden_correlation": 0.6, "best/active_units": 4.0}
    study, trial = study_of(found, BASELINES | hidden, **params)
    lost, beside = describe_baselines(study, trial)
    assert lost.startswith("It loses to components of what the other labels leave. ")
    assert beside.endswith(
        "; correlation of hidden labels 0.6, components of what the other labels leave has 0.75."
    )
    easier, _ = study_of(found, BASELINES | hidden, hidden_labels='["tail_x"]')
    (sentence,) = describe_baselines(easier, easier.trials[0])
    assert sentence.endswith("components of what the other labels leave has 0.")


def test_what_a_trial_loses_to_twice_is_named_once():
    study, trial = study_of(GOOD | {"best/frame_mse": 0.02, "best/label_r2": 0.1})
    both = BASELINES | {"baseline/pca_label_r2": 0.9}
    lost, _ = describe_baselines(replace(study, metrics=both), trial)
    assert lost.count("PCA with 10 components") == 1


def test_the_front_is_drawn_with_what_a_trial_should_beat():
    study, _ = study_of(GOOD)
    assert name_baselines(study) == {
        "label_r2": ("ridge regression on the pixels", 0.81),
        "frame_mse": ("PCA with 10 components", 0.0044),
    }
    assert name_baselines(study_of(GOOD, baselines={})[0]) == {}


def test_what_is_lost_to_comes_first_with_what_helps():
    study, trial = study_of(GOOD | {"best/frame_mse": 0.0047, "best/label_r2": 0.7})
    first, second = describe_baselines(study, trial)
    assert first.startswith(
        "It loses to ridge regression on the pixels and PCA with 10 components. What usually helps"
    )
    assert second.startswith("Beside")
    assert explain_choice(study)[1][0] == first


@pytest.mark.parametrize(
    ("found", "warning"),
    [
        ({"best/label_r2": 0.7}, "its label R² of 0.7 is below the 0.81 of ridge regression"),
        ({"best/frame_mse": 0.008}, "its frames are no better than the mean frame"),
        ({"best/active_units": 1.0}, "1 of its 2 unsupervised latents collapsed"),
        ({"best/active_units": 0.0}, "2 of its 2 unsupervised latents collapsed"),
        ({"best/leak_r2": 0.6}, "its unsupervised latents tell the labels with an R² of 0.6"),
    ],
)
def test_a_fault_is_told_in_the_sentence_that_recommends(found, warning):
    study, trial = study_of(GOOD | found)
    (phrase,) = list_warnings(study, trial)
    assert phrase.startswith(warning)
    sentence = explain_choice(study)[0]
    assert sentence.startswith("Take ")
    assert f", but {warning}" in sentence


def test_label_r2_is_poor_by_itself_where_ridge_is_no_better():
    study, trial = study_of(GOOD | {"best/label_r2": 0.3})
    easier = replace(study, metrics=BASELINES | {"baseline/ridge_label_r2": 0.2})
    assert list_warnings(easier, trial) == ["its label R² of 0.3 is poor"]


def test_latents_are_counted_in_the_trial_and_not_in_the_base():
    study, trial = study_of(GOOD, n_ae_latents=12, n_background=1)
    assert list_warnings(study, trial) == ["1 of its 3 unsupervised latents collapsed"]
    study, trial = study_of(GOOD, hidden_labels='["paw_x", "paw_y"]')
    assert list_warnings(study, trial) == ["2 of its 4 unsupervised latents collapsed"]


def test_a_study_without_baselines_and_a_model_without_labels_say_what_they_know():
    study, trial = study_of(GOOD, baselines={})
    assert list(describe_baselines(study, trial)) == []
    assert list_warnings(study, trial) == []
    frames = {"best/epoch": 9.0, "best/frame_mse": 0.0041}
    study, trial = study_of(frames)
    (sentence,) = describe_baselines(study, trial)
    assert "label" not in sentence.partition(";")[0].replace("on the labels", "")
    assert sentence.startswith("Beside what needs no network: frame MSE 0.0041")


def test_a_difference_that_nobody_would_see_is_no_loss():
    study, trial = study_of(GOOD | {"best/label_r2": 0.80, "best/frame_mse": 0.00445})
    assert list_warnings(study, trial) == []
    (only,) = describe_baselines(study, trial)
    assert only.startswith("Beside what needs no network: label R² 0.8, ridge")

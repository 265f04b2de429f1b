"""Defects of the reference implementation, and the tests that keep ours from repeating them.

Each row is a defect that was read or reproduced in its sources, in a few words, and the tests that
fail if ours had it, as FILE::TEST below this folder.
"""

import ast
import re
import tomllib
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from psvae_tune.training.batches import prepare_data
from psvae_tune.training.fit import fit, start
from tests.support.studies import make_config, make_session

HERE = Path(__file__).parent
TRAPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "B1": (
        "draws had the variance as their standard deviation",
        ("models/test_latents.py::test_draws_have_the_variance_of_logvar",),
    ),
    "B2": (
        "the likelihood of a clip in chunks was divided by the last chunk",
        (
            "test_traps.py::test_a_long_clip_is_one_batch_and_one_step",
            "models/test_losses.py::test_gaussian_nll_is_that_of_torch",
        ),
    ),
    "B3": (
        "after the annealing beta was 1, not what was asked for",
        ("training/test_fit.py::test_annealing_ends_at_the_weight_that_was_asked_for",),
    ),
    "B4": (
        "the test split was scored with the last model",
        ("training/test_fit.py::test_the_test_split_is_scored_with_the_best_model",),
    ),
    "B5": (
        "means of chunks were propagated back unweighted",
        (
            "test_traps.py::test_a_long_clip_is_one_batch_and_one_step",
            "test_architecture.py::test_backward_stands_once",
        ),
    ),
    "B6": (
        "the decomposed KL lacked its constants in log n",
        (
            "models/test_losses.py::test_decomposition_adds_up",
            "models/test_losses.py::test_values_compare_across_numbers_of_frames",
            "models/test_losses.py::test_total_correlation_of_one_latent_is_exactly_zero",
        ),
    ),
    "B7": (
        "the best epoch was that of the annealed loss",
        (
            "training/test_fit.py::test_no_epoch_of_the_annealing_is_the_best",
            "training/test_fit.py::test_the_best_epoch_is_the_best_of_its_metric",
            "config/test_trial.py::test_contradictions_and_bad_values",
        ),
    ),
    "B8": (
        "the best version was that of the least loss, whatever its weights",
        (
            "config/test_study.py::test_bad_files",
            "config/test_selection_rule.py::test_rules_that_do_not_fit_say_why",
        ),
    ),
    "B9": (
        "label R2 was averaged over clips",
        ("metrics/test_label_prediction.py::test_r2_is_pooled_over_clips_not_averaged",),
    ),
    "B10": (
        "masked labels were flattened, so constants had an R2 of 0.99",
        (
            "metrics/test_label_prediction.py::test_a_difference_between_label_means_explains_nothing",
        ),
    ),
    "B11": (
        "losses were divided by frames where entries were masked",
        (
            "models/test_losses.py::test_masked_fraction_does_not_rescale",
            "training/test_fit.py::test_the_masked_fraction_does_not_change_what_is_compared",
            "training/test_evaluate.py::test_likelihoods_count_valid_entries_for_all",
        ),
    ),
    "B12": (
        "only the mask of the first frame was used",
        ("training/test_evaluate.py::test_frame_mse_is_of_valid_pixels_pooled_and_by_session",),
    ),
    "B13": (
        "the rotation was drawn from the seed of the data",
        (
            "models/test_models.py::test_seed_decides_weights_and_rotation",
            "models/test_models.py::test_global_random_state_is_left_alone",
        ),
    ),
    "B14": (
        "a training seed that was drawn was not kept",
        (
            "training/test_fit.py::test_same_seed_same_numbers",
            "search/test_trainable.py::test_its_run_holds_params_metrics_and_files",
        ),
    ),
    "B15": (
        "validation sampled latents, and kept gradients",
        (
            "training/test_fit.py::test_validation_neither_samples_nor_keeps_gradients",
            "models/test_models.py::test_prediction_never_samples",
        ),
    ),
    "B16": (
        "the first epoch took no step",
        ("training/test_fit.py::test_every_epoch_takes_a_step",),
    ),
    "B17": (
        "the subspace projection ignored label masks, and could not set labels",
        (
            "models/test_models.py::test_masked_entries_change_nothing",
            "results/test_fitted_model.py::test_a_label_that_is_set_is_what_the_latents_then_say",
        ),
    ),
    "B18": (
        "the projection was inverted by its transpose",
        ("models/test_latents.py::test_set_labels_are_read_out_again",),
    ),
    "B19": (
        "the conditional VAE had no channels for a conditional encoder",
        (
            "models/test_models.py::test_rows_of_the_objective",
            "study/test_every_model.py::test_a_short_fit",
        ),
    ),
    "B20": (
        "one metric had several names",
        ("models/test_registry.py::test_every_term_is_a_metric_that_the_model_may_be_asked_for",),
    ),
    "B21": (
        "the triplet loss was miscounted, and ended at four sessions",
        (
            "models/test_losses.py::test_triplet_loss_estimates_that_of_nested_loops",
            "models/test_losses.py::test_triplet_loss_of_a_rhombus_is_known",
            "models/test_losses.py::test_triplet_loss_is_decided_by_its_generator",
        ),
    ),
    "B22": (
        "validation had no triplet loss",
        (
            "training/test_evaluate.py::test_triplet_loss_compares_sessions_although_clips_come_one_by_one",
        ),
    ),
    "B23": (
        "batches of unequal sessions were skipped, or never came",
        ("training/test_batches.py::test_batches_of_several_sessions_lose_no_clip",),
    ),
    "B24": (
        "a number of training clips held for the first session only",
        ("training/test_batches.py::test_a_number_of_training_clips_is_taken_from_every_session",),
    ),
    "B25": (
        "clips after the last whole block were dropped; splits touched",
        (
            "data/test_splits.py::test_without_gaps_every_clip_is_used",
            "data/test_splits.py::test_gap_clips_lie_between_different_splits",
            "data/test_splits.py::test_too_few_clips",
        ),
    ),
    "B26": (
        "ten thousand clips at most; float frames were divided by 255",
        (
            "data/test_session_file.py::test_more_than_ten_thousand_clips_in_numerical_order",
            "data/test_session_file.py::test_float_frames_stay_as_they_are",
        ),
    ),
    "B27": (
        "the identity of a fit left out settings that change it",
        ("config/test_trial.py::test_identity_holds_every_setting_but_those_without_effect",),
    ),
    "B28": (
        "a fit could not be resumed",
        (
            "training/test_fit.py::test_a_resumed_fit_equals_an_uninterrupted_one",
            "faults/test_cut_off.py::test_a_driver_killed_again_and_again",
        ),
    ),
    "B29": (
        "fits that began together were kept apart by waiting at random",
        (
            "study/test_study_end_to_end.py::test_sixteen_trials_leave_sixteen_ended_runs_and_one_study",
        ),
    ),
    "B30": (
        "pickles were opened",
        (
            "models/test_model_file.py::test_pickle_is_refused_unopened",
            "results/test_behavenet.py::test_a_pickle_is_refused_unopened",
            "training/test_fit.py::test_a_broken_checkpoint_is_refused",
        ),
    ),
    "B31": (
        "what it needs cannot be installed any more",
        (
            "test_traps.py::test_dependencies_are_bounded_and_those_installed_are_within",
            "test_traps.py::test_warnings_are_errors",
        ),
    ),
}


CHECKS = {"raises", "warns", "assert_close", "assert_allclose", "assert_array_equal"}


def can_fail(test):
    """Return whether a test asserts something, itself or in a helper named after that."""
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in CHECKS or name.startswith(("assert_", "check_")):
                return True
    return False


def is_run(test):
    """Return whether no mark keeps a test from running, or from failing."""
    marks = " ".join(ast.unparse(mark) for mark in test.decorator_list)
    return not re.search(r"\bmark\.(skip|xfail)", marks)


@pytest.mark.parametrize(
    "place", sorted({place for _, places in TRAPS.values() for place in places})
)
def test_the_tests_of_a_trap_run_and_can_fail(place):
    path, _, name = place.partition("::")
    tree = ast.parse((HERE / path).read_text())
    (test,) = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    assert is_run(test)
    assert can_fail(test)


def test_a_long_clip_is_one_batch_and_one_step():
    """The reference implementation cuts clips of more than 200 frames into chunks."""
    data = prepare_data([make_session(lengths=(450,) * 10)], make_config())
    state = start(make_config(), data, torch.device("cpu"))
    batch = data.batch([(0, 0)], state.device)
    whole = state.model.terms(batch, 1.0, None)
    pixels = (batch.frames - whole.prediction.frames).square().sum(dim=(1, 2, 3))
    n_pixels = batch.frames[0].numel()
    expected = 0.5 * (pixels.mean() + n_pixels * torch.log(torch.tensor(2 * torch.pi)))
    torch.testing.assert_close(whole.terms["frames_nll"].value, expected)
    next(fit(state, data, make_config()))
    steps = {int(slot["step"]) for slot in state.optimizer.state.values()}
    assert steps == {len(data.clips("train"))} == {8}


def test_dependencies_are_bounded_and_those_installed_are_within(root):
    settings = tomllib.loads((root / "pyproject.toml").read_text())
    for text in settings["project"]["dependencies"]:
        requirement = Requirement(text)
        assert any(bound.operator == ">=" for bound in requirement.specifier), text
        assert requirement.specifier.contains(version(requirement.name)), text


def test_warnings_are_errors():
    with pytest.raises(FutureWarning):
        warnings.warn("this is going to change", FutureWarning, stacklevel=1)

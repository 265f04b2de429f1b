"""Packing of trials onto GPUs, without the measurement, which needs a GPU."""

import pytest

from psvae_tune.cluster.gpu_packing import largest_configs, measure_gpu_share, share_gpu
from psvae_tune.cluster.nodes import Node, Nodes
from psvae_tune.config.study import parse_study
from psvae_tune.errors import StudyError
from psvae_tune.training.cost import TrialCost
from tests.support.studies import ARCHITECTURE

GB = 2**30
WIDER = {**ARCHITECTURE, "ae_encoding_n_channels": [8, 16]}


def make_study(space):
    return parse_study(
        {
            "experiment_name": "packing",
            "data": {"sessions": ["demo"]},
            "model": {
                "model_class": "ps-vae",
                "n_ae_latents": 6,
                "ps_vae.alpha": 1,
                "ps_vae.beta": 1,
                "ps_vae.anneal_epochs": 1,
                "ae_arch_json": ARCHITECTURE,
            },
            "training": {"max_n_epochs": 2},
            "search": {"space": space, "objectives": {"val/frame_mse": "min"}},
        },
        "packing",
        4,
    )


def cost(train_s=1.0, validate_s=0.0, memory_bytes=GB):
    return TrialCost(train_s, validate_s, memory_bytes)


@pytest.mark.parametrize(
    ("needed", "has", "n_trials"),
    [(1 * GB, 80 * GB, 4), (20 * GB, 80 * GB, 2), (60 * GB, 80 * GB, 1)],
)
def test_no_more_trials_share_a_gpu_than_fit(needed, has, n_trials):
    assert share_gpu([cost(1, 9, needed)], has) == 1 / n_trials
    assert share_gpu([cost(1, 9), cost(1, 9, needed)], has) == 1 / n_trials


@pytest.mark.parametrize(
    ("train_s", "validate_s", "n_trials"),
    [(1, 0, 1), (1, 0.05, 1), (1, 0.5, 2), (1, 1, 2), (1, 1.15, 2), (1, 2, 4), (1, 100, 4)],
)
def test_the_fewest_trials_share_a_gpu_that_train_as_much_as_more(train_s, validate_s, n_trials):
    """Against an oracle: two take turns on the GPU, and nothing else holds them up."""
    assert share_gpu([cost(train_s, validate_s)], 80 * GB) == 1 / n_trials
    assert share_gpu([cost(train_s, 100), cost(train_s, validate_s)], 80 * GB) == 1 / n_trials

    def epochs_in_turns(n):
        """Simulate n trials: each waits for the GPU, trains, and validates beside the others."""
        ready, free, done, end = [0.0] * n, 0.0, 0, 400 * (train_s + validate_s)
        while min(ready) < end:
            i = ready.index(min(ready))
            free = max(free, ready[i]) + train_s
            ready[i] = free + validate_s
            done += 1
        return done / end

    rates = {n: epochs_in_turns(n) for n in (1, 2, 4)}
    fewest = min(n for n in rates if 1.1 * rates[n] > max(rates.values()))
    assert fewest == n_trials


def test_a_trial_that_fits_on_no_gpu_is_told_as_such():
    with pytest.raises(StudyError, match=r"takes 70\.0 GB on a GPU.*got 80\.0 GB"):
        share_gpu([cost(memory_bytes=70 * GB)], 80 * GB)


def test_the_largest_trial_has_the_largest_of_every_size_and_each_architecture():
    study = make_study(
        {
            "n_ae_latents": {"grid_search": [6, 12, 8]},
            "ae_arch_json": {"grid_search": [ARCHITECTURE, WIDER]},
            "ps_vae.alpha": {"grid_search": [1, 100]},
        }
    )
    found = largest_configs(study)
    assert [config.model.n_ae_latents for config in found] == [12, 12]
    channels = [list(config.model.ae_arch_json.ae_encoding_n_channels) for config in found]
    assert channels == [[4, 8], [8, 16]]


def test_without_a_gpu_no_share_of_one_is_asked_for():
    study = make_study({"ps_vae.alpha": {"grid_search": [1, 100]}})
    assert largest_configs(study) == [study.base]
    assert measure_gpu_share(study, None, Nodes((Node("1", "node", {"CPU": 4}),))) == 0

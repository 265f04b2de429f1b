"""Packing of trials onto GPUs, without the measurement, which needs a GPU."""

import pytest

from psvae_tune.cluster.gpu_packing import largest_configs, measure_gpu_share, share_gpu
from psvae_tune.cluster.nodes import Node, Nodes
from psvae_tune.config.study import parse_study
from psvae_tune.errors import StudyError
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


@pytest.mark.parametrize(
    ("needed", "has", "share"),
    [
        (1 * GB, 80 * GB, 1 / 8),  # no more than eight, however small
        (9 * GB, 80 * GB, 1 / 7),
        (20 * GB, 80 * GB, 1 / 3),
        (60 * GB, 80 * GB, 1),
    ],
)
def test_as_many_trials_share_a_gpu_as_fit(needed, has, share):
    assert share_gpu(needed, has) == share


def test_a_trial_that_fits_on_no_gpu_is_told_as_such():
    with pytest.raises(StudyError, match=r"takes 70\.0 GB on a GPU.*got 80\.0 GB"):
        share_gpu(70 * GB, 80 * GB)


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

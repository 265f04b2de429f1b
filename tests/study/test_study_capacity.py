"""A study says how many latents can be active, and takes ``decoder_variance: auto`` from that."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from psvae_tune.api.models import fit
from psvae_tune.cli.commands import main
from psvae_tune.data.session_file import read_session, write_session
from psvae_tune.errors import DataError
from psvae_tune.metrics.capacity import measure_capacity
from psvae_tune.study.load_sessions import read_sessions
from psvae_tune.study.plan import make_plan
from psvae_tune.study.study_capacity import measure_plan
from tests.support.linear_frames import generate
from tests.support.studies import ARCHITECTURE

VARIANCES = [0.8, 0.4, 0.2, 0.01]
"""The first is that of the label."""


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("capacity") / "linear.h5"
    frames, factors, clips = generate(VARIANCES, noise=0.005)
    write_session(
        path,
        np.rint(255 * frames.clip(0, 1)).astype(np.uint8),
        np.bincount(clips).tolist(),
        label_names=["first"],
        labels=factors[:, :1],
    )
    return path


def plan_of(*paths, space=None, **model):
    base = {
        "model_class": "ps-vae",
        "n_ae_latents": "n_labels + 2",
        "ps_vae.alpha": 1,
        "ps_vae.beta": 1,
        "ps_vae.anneal_epochs": 1,
        "ae_arch_json": ARCHITECTURE,
    }
    if model.get("model_class", "ps-vae") != "ps-vae":
        base = {name: value for name, value in base.items() if "." not in name}
    raw = {
        "experiment_name": "capacity",
        "data": {"sessions": [str(path) for path in paths]},
        "model": base | model,
        "training": {"max_n_epochs": 2},
        "search": {
            "space": space or {"rng_seed_model": {"grid_search": [0, 1]}},
            "objectives": {"val/frame_mse": "min"},
        },
    }
    return make_plan(raw, "f.yaml")


def test_latents_that_must_collapse_are_told_with_a_variance_that_keeps_them(recording):
    found = measure_plan(plan_of(recording))
    (line,) = found.lines
    assert line.startswith("0 of 2 unsupervised latents can be active at variance 1; components ")
    assert "beside 1 label have 0.4" in line
    (warning,) = found.warnings
    assert warning.startswith("2 of 2 unsupervised latents must collapse at variance 1; ")
    better = float(warning.split()[-3])
    again = measure_plan(plan_of(recording, decoder_variance=better))
    assert not again.warnings
    assert again.lines[0].startswith("2 of 2 unsupervised latents can be active")


def test_what_is_searched_is_told_for_both_ends(recording):
    space = {"decoder_variance": {"grid_search": [0.3, 0.01, 0.1]}}
    lines = measure_plan(plan_of(recording, space=space)).lines
    assert [line.partition(" of")[0] for line in lines] == ["1", "2"]
    assert "variance 0.3;" in lines[0]
    assert "variance 0.01;" in lines[1]


def test_beta_of_a_vae_raises_the_bar_and_labels_do_not_count(recording):
    settings = {"model_class": "vae", "n_ae_latents": 3, "decoder_variance": 0.1}
    assert measure_plan(plan_of(recording, **settings)).lines[0].startswith("3 of 3")
    raised = measure_plan(plan_of(recording, **settings, **{"vae.beta": 5}))
    assert raised.lines[0].startswith("1 of 3 unsupervised latents can be active at variance 0.5")
    assert "components of the frames have 0." in raised.lines[0]


def test_more_latents_than_components_code_noise(recording):
    found = measure_plan(plan_of(recording, n_ae_latents=200, decoder_variance=1e-3))
    assert found.warnings[0].endswith("what they could code is noise; take fewer")


def test_models_without_a_posterior_have_no_variance(recording):
    found = measure_plan(plan_of(recording, model_class="ae", n_ae_latents=3))
    assert found.lines == found.warnings == ()


def test_files_and_recordings_in_memory_and_in_their_files_give_the_same(recording):
    plan = plan_of(recording, decoder_variance="auto")
    sessions = read_sessions(plan, ())
    streamed = [read_session(recording, needs_labels=True, in_memory=False)]
    found = [measure_plan(plan, given) for given in (None, sessions, streamed)]
    assert found[0].lines == found[1].lines == found[2].lines
    assert len({item.plan.study.base.trial_id(["x"]) for item in found}) == 1


def test_auto_is_a_number_of_the_study_and_of_its_trials(recording):
    plan = plan_of(recording, decoder_variance="auto")
    found = measure_plan(plan)
    session = read_session(recording, needs_labels=True)
    exact = generate(VARIANCES, noise=0.005)
    whole = measure_capacity(session.frames, exact[2], session.labels)
    variance = found.plan.study.base.model.variance
    assert variance == pytest.approx(whole.choose_variance(2), rel=0.2)
    assert found.lines[0] == f"decoder_variance: auto is {variance:g}"
    given = plan_of(recording, decoder_variance=variance).study.base
    assert found.plan.study.base.trial_id(["x"]) == given.trial_id(["x"])
    assert found.plan.contents["model"]["decoder_variance"] == "auto"


def test_a_fit_takes_it_from_the_training_frames(recording):
    config = {
        "model_class": "ps-vae",
        "n_ae_latents": "n_labels + 2",
        "ps_vae.alpha": 1,
        "ps_vae.beta": 1,
        "ps_vae.anneal_epochs": 0,
        "max_n_epochs": 1,
        "ae_arch_json": ARCHITECTURE,
        "decoder_variance": "auto",
    }
    found = fit(recording, config)
    expected = measure_plan(plan_of(recording, decoder_variance="auto")).plan.study.base
    assert found.model.model.config.decoder_variance == expected.model.variance


def test_sessions_that_differ_leave_no_component_to_a_model_with_background_latents(tmp_path):
    paths = []
    for i in range(2):
        frames, factors, clips = generate(VARIANCES, seed=3, noise=0.005)
        paths.append(tmp_path / f"{i}.h5")
        pixels = np.rint(255 * (frames - 0.2 * i).clip(0, 1)).astype(np.uint8)
        lengths = np.bincount(clips).tolist()
        write_session(paths[-1], pixels, lengths, label_names=["x"], labels=factors[:, :1] + i)
    alike = measure_plan(plan_of(*paths))
    assert alike.lines[0].startswith("1 of 2")  # of 16 × 16 × 0.1²
    model = {"ps_vae.delta": 1, "n_background": 1, "n_ae_latents": "n_labels + 3"}
    raw = plan_of(*paths).contents
    raw["model"] |= {"model_class": "msps-vae", **model}
    assert measure_plan(make_plan(raw, "f.yaml")).lines[0].startswith("0 of 2")


def test_frames_without_a_capacity_are_a_warning_unless_it_is_needed(tmp_path):
    path = tmp_path / "grey.h5"
    labels = np.random.default_rng(0).random((50, 1))
    frames = np.full((50, 1, 16, 16), 90, np.uint8)
    write_session(path, frames, [5] * 10, label_names=["x"], labels=labels)
    found = measure_plan(plan_of(path))
    (warning,) = found.warnings
    assert warning.endswith("frames never vary, so no latent can be active")
    with pytest.raises(DataError, match="never vary"):
        measure_plan(plan_of(path, decoder_variance="auto"))
    result = CliRunner().invoke(main, ["data", "check", str(path)])
    assert result.exit_code == 0
    assert "look capacity: frames never vary" in result.output


@pytest.mark.slow
@pytest.mark.parametrize(("variance", "n_active"), [(2.0, 0), (0.8, 1), (0.3, 2), (0.02, 3)])
def test_latents_of_a_fit_collapse_where_it_is_predicted(tmp_path, variance, n_active):
    torch.set_num_threads(1)
    path = tmp_path / "linear.h5"
    frames, _, clips = generate([1.5, 0.55, 0.15], n_clips=20, clip_length=50, noise=0.01)
    write_session(path, frames.clip(0, 1), np.bincount(clips).tolist())
    found = fit(
        path,
        {
            "model_class": "vae",
            "n_ae_latents": 5,
            "decoder_variance": variance,
            "max_n_epochs": 60,
            "learning_rate": 2e-3,
            "precision": "float32",
            "ae_arch_json": {
                "ae_encoding_n_channels": [16, 32],
                "ae_encoding_kernel_size": [5, 5],
                "ae_encoding_stride_size": [2, 2],
            },
        },
    )
    assert found.metrics["val/active_units"] == n_active

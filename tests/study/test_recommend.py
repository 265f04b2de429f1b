import shutil

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from psvae_tune.cli.commands import main
from psvae_tune.data.demo import write_demo
from psvae_tune.data.frame_capacity import measure_recording
from psvae_tune.data.session_file import read_session, write_session
from psvae_tune.data.session_header import read_header
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.metrics.capacity import Capacity
from psvae_tune.study.recommend import Cost, count_unsupervised, recommend_study


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("recommend") / "demo.h5"
    write_demo(path, n_clips=12, clip_length=20)
    return path


@pytest.fixture(scope="module")
def text(demo):
    return recommend_study(str(demo))


def test_what_is_recommended_passes_check_as_it_is(text, tmp_path):
    file = tmp_path / "recommended.yaml"
    file.write_text(text)
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 0, result.output
    assert "ps-vae: up to 13 trials" in result.output


def test_alphas_follow_the_size_of_frames_and_the_number_of_labels(text, demo):
    header = read_header(demo, needs_labels=True)
    study = yaml.safe_load(text)
    variance = study["model"]["decoder_variance"]
    alphas = study["search"]["stages"][1]["space"]["ps_vae.alpha"]["grid_search"]
    normalised = [alpha * variance * header.n_labels / (32 * 32) for alpha in alphas]
    assert min(normalised) < 0.09
    assert max(normalised) > 0.15
    assert any(0.07 < value < 0.16 for value in normalised)


def test_every_choice_has_its_reason_and_the_cost_is_told(text):
    assert "# Cost: up to 10 fits" in text
    for name in ("n_ae_latents", "ps_vae.alpha: {", "max_n_epochs", "gpus_per_trial"):
        lines = text.splitlines()
        row = next(i for i, line in enumerate(lines) if line.strip().startswith(name))
        assert lines[row - 1].strip().startswith("#"), name


def test_the_variance_lets_the_wanted_components_live(text, demo, tmp_path):
    header = read_header(demo, needs_labels=True)
    study = yaml.safe_load(text)
    found = measure_recording(header)
    n_latents = int(study["model"]["n_ae_latents"].partition("+")[2])
    variance = study["model"]["decoder_variance"]
    assert found.residual[n_latents - 1] == pytest.approx(10 * variance, rel=0.5)
    variances = study["search"]["stages"][0]["space"]["decoder_variance"]["grid_search"]
    assert variances[0] == variance < variances[1] < 1
    # The same scene at a tenth of the contrast has a hundredth of the variance.
    session = read_session(demo, needs_labels=True)
    pale = tmp_path / "pale.h5"
    frames = np.rint(100 + session.frames / 10.0).astype(np.uint8)
    write_session(
        pale,
        frames,
        header.clip_lengths,
        label_names=header.label_names,
        labels=session.labels,
        label_masks=session.label_masks,
    )
    paler = yaml.safe_load(recommend_study(str(pale)))
    assert paler["model"]["decoder_variance"] < variance / 10
    assert paler["model"]["ps_vae.alpha"] > 10 * study["model"]["ps_vae.alpha"]


def capacity(residual, n_pixels=1000, noise=0.0):
    residual = np.array(residual, float)
    total = residual.sum() + noise * n_pixels
    return Capacity(residual, residual, total, total, n_pixels)


@pytest.mark.parametrize(
    ("residual", "noise", "n_latents"),
    [
        ([50, 3, 1], 0, 2),
        ([50, 30, 11, 3, 1], 0, 3),
        ([50, 40, 30, 20, 11, 10.5], 0, 4),
        ([0.9, 0.8], 0.004, 2),
        ([5, 0.03], 0.004, 1),
        ([0.01, 0.01], 0.004, 1),
    ],
)
def test_latents_are_as_many_as_strong_components_and_none_codes_noise(residual, noise, n_latents):
    assert count_unsupervised(capacity(residual, noise=noise)) == n_latents


def test_short_recordings_get_more_epochs_than_long_ones(text, tmp_path):
    long = tmp_path / "long.h5"
    write_demo(long, n_clips=200, clip_length=4)
    other = recommend_study(str(long))
    epochs = [yaml.safe_load(t)["training"]["max_n_epochs"] for t in (text, other)]
    assert epochs[0] > epochs[1]


def test_hours_are_those_of_the_fits_that_follow_each_other():
    cost = Cost(epoch_s=18, n_fits=9, n_at_a_time=2, n_rounds=5)
    assert cost.hours(200) == pytest.approx(5)
    assert cost.count_affordable(5.2) == 200
    with pytest.raises(ConfigError, match=r"2 hours are too few .* take about 2\.5 hours here"):
        cost.count_affordable(2)


@pytest.mark.parametrize("hours", ["1e-6", "nan", "1e6", "inf"])
def test_hours_are_those_of_this_machine(text, demo, tmp_path, hours):
    file = tmp_path / "mine.yaml"
    command = ["recommend", str(demo), "-o", str(file), "--hours", hours]
    result = CliRunner().invoke(main, command)
    if float(hours) > 1:
        epochs = [yaml.safe_load(t)["training"]["max_n_epochs"] for t in (text, file.read_text())]
        assert epochs[0] == epochs[1]
    else:
        assert result.exit_code == 2
        assert "hours are too few for 10 fits of 100 epochs" in result.output
        assert not file.exists()


def test_a_recording_may_have_any_name(demo, tmp_path):
    path = tmp_path / 'a "mouse",\u2028\x7f\U0001f42d: # 1.h5'
    shutil.copy(demo, path)
    assert yaml.safe_load(recommend_study(str(path)))["data"]["sessions"] == [str(path)]


def test_a_session_without_labels_is_refused(demo, tmp_path):
    session = read_session(demo, needs_labels=True)
    path = tmp_path / "bare.h5"
    write_session(path, session.frames, session.header.clip_lengths)
    with pytest.raises(DataError, match="holds no labels"):
        recommend_study(str(path))


def test_a_file_in_the_way_is_kept(demo, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("mine")
    result = CliRunner().invoke(main, ["recommend", str(demo), "-o", str(file)])
    assert result.exit_code == 2
    assert file.read_text() == "mine"

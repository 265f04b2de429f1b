"""Every array and scalar of every reference file."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from psvae_tune.errors import ConfigError, StorageError
from psvae_tune.models import losses
from psvae_tune.models.batch import Batch, Prediction
from psvae_tune.models.behavenet import model_from_reference
from psvae_tune.models.label_planes import label_planes
from psvae_tune.models.model import Model
from tests.support.small_models import (
    NO_REFERENCE,
    REFERENCE_FILES,
    Reference,
    make_batch,
    read_reference,
)

pytestmark = NO_REFERENCE
INPUTS = {"frames", "labels", "labels_sc", "z"}


def reproduce(name: str, file: Reference, model: Model, said: Prediction) -> np.ndarray:
    arrays = {key: torch.from_numpy(value) for key, value in file.arrays.items()}
    frames, labels = arrays["frames"] / 255, arrays["labels"]
    height, width = frames.shape[2:]
    if name.startswith("labels_2d"):
        planes = label_planes(arrays["labels_sc"], height, width).flatten(2)
        return {"labels_2d_sum": planes.sum(2), "labels_2d_argmax": planes.argmax(2)}[name]
    if name in ("latents", "mean", "logvar", "labels_hat", "frames_hat"):
        return {
            "latents": said.mean,
            "mean": said.mean,
            "logvar": said.logvar,
            "labels_hat": said.labels,
            "frames_hat": said.frames,
        }[name]
    if name in ("loss", "loss_msp", "loss_mse"):
        batch = Batch(frames, labels)
        terms = model.terms(batch, 1.0, None)
        values = terms.values()
        return {
            "loss": terms.loss,
            "loss_msp": values["label_mse"] + values["projection"],
            "loss_mse": values["frame_mse"],
        }[name]
    if name in ("frames_mse", "frames_ll", "labels_mse", "labels_ll"):
        target, kind = name.split("_")
        pair = (frames, said.frames) if target == "frames" else (labels, said.labels)
        assert pair[1] is not None
        return {
            "mse": losses.mean_squared_error(*pair),
            "ll": -losses.gaussian_nll(*pair),
        }[kind]
    assert said.logvar is not None
    if name == "kl":
        return losses.kl_to_std_normal(said.mean, said.logvar)
    blocks = [model.partition.split(values) for values in (arrays["z"], said.mean, said.logvar)]
    if name == "supervised_kl":
        return losses.kl_to_std_normal(blocks[1].supervised, blocks[2].supervised)
    z, mean, logvar = (block.unsupervised for block in blocks)
    kl = losses.decompose_kl(z, mean, logvar)
    # The reference implementation drops the constants log n.
    log_n, n_latents = np.log(len(z)), z.shape[1]
    return {
        "icmi": kl.icmi,
        "tc": kl.tc,
        "dwkl": kl.dwkl,
        "behavenet_icmi": kl.icmi - log_n,
        "behavenet_tc": kl.tc - (n_latents - 1) * log_n,
        "behavenet_dwkl": kl.dwkl + n_latents * log_n,
    }[name]


@cache
def load(path: Path) -> tuple[Reference, Model, Prediction]:
    file = read_reference(path)
    model = model_from_reference(file.meta, file.state)
    frames = torch.from_numpy(file.arrays["frames"]) / 255
    said = model.predict(frames, file.arrays["labels"], file.arrays.get("labels_sc"))
    return file, model, said


CASES = [
    (path, name)
    for path in REFERENCE_FILES
    for name in read_reference(path).arrays
    if name not in INPUTS
]


@pytest.mark.parametrize(
    ("path", "name"), CASES, ids=[f"{path.stem}-{name}" for path, name in CASES]
)
def test_reference_number(path: Path, name: str) -> None:
    file, model, said = load(path)
    with torch.no_grad():
        found = np.asarray(reproduce(name, file, model, said))
    expected = file.arrays[name]
    assert found.shape == expected.shape
    # A decomposed KL is a difference of log densities: what float32 leaves is relative to them.
    scale = max(np.abs(expected).max(), abs(file.arrays.get(f"behavenet_{name}", 0.0)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * scale)


def test_reference_model_is_in_evaluation_mode() -> None:
    assert not load(REFERENCE_FILES[0])[1].training


def test_frame_size_given_in_meta_is_that_of_the_model() -> None:
    file = load(REFERENCE_FILES[0])[0]
    model = model_from_reference({**file.meta, "y_pixels": 48, "x_pixels": 64}, file.state)
    assert (model.shape.height, model.shape.width) == (48, 64)
    assert model.decode(torch.zeros(2, 8)).shape == (2, 1, 48, 64)


def test_parameters_of_another_model_are_refused() -> None:
    by_name = {path.stem: load(path)[0] for path in REFERENCE_FILES}
    ae, ps_vae = by_name["ae"], by_name["ps_vae"]
    with pytest.raises(StorageError, match="not those of this `ae`"):
        model_from_reference(ae.meta, ps_vae.state)
    state = {name: value for name, value in ae.state.items() if name != "encoding.FF.weight"}
    with pytest.raises(StorageError, match=r"encoding\.FF\.weight"):
        model_from_reference(ae.meta, state)
    with pytest.raises(ConfigError, match="model_class"):
        model_from_reference({**ae.meta, "model_class": "pca"}, ae.state)
    with pytest.raises(ConfigError, match=r"beta_tcvae\.beta"):
        model_from_reference({**by_name["beta_tcvae"].meta, "weights": {}}, {})


def test_reference_model_can_be_trained_on() -> None:
    file, model, _ = load(next(path for path in REFERENCE_FILES if path.stem == "msps_vae"))
    batch = make_batch(model.shape.__class__(1, 48, 64, 4, 2))
    model_from_reference(file.meta, file.state).terms(batch, 1.0, None).loss.backward()

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from psvae_tune.data.label_scaler import LabelScaler
from psvae_tune.errors import DataError, StorageError
from psvae_tune.models.encoding import N_FRAMES_AT_ONCE
from psvae_tune.models.model_file import load_model, save_model
from psvae_tune.models.pyfunc import _load_pyfunc
from psvae_tune.models.registry import build_model
from tests.support.small_models import SHAPE, VARIANTS, make_batch, make_config

SCALER = LabelScaler(np.array([[10.0, 20.0, 30.0, 40.0]]), np.array([[1.0, 2.0, 3.0, 4.0]]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_model_is_the_same_after_a_round_trip(variant: str, tmp_path: Path) -> None:
    model = build_model(make_config(**VARIANTS[variant], rng_seed_model=5), SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    save_model(tmp_path / "model.pt", model, SCALER, {"label_names": ["paw", "ü"]})
    saved = load_model(tmp_path / "model.pt")
    assert saved.model.config == model.config
    assert saved.model.shape == model.shape
    assert saved.label_scaler.to_dict() == SCALER.to_dict()
    assert saved.extra == {"label_names": ["paw", "ü"]}
    assert not saved.model.training
    batch = make_batch()
    given = batch.frames, batch.labels, batch.labels_sc, batch.session_index
    assert torch.equal(saved.model.predict(*given).frames, model.eval().predict(*given).frames)


def test_file_holds_tensors_and_json_alone(tmp_path: Path) -> None:
    save_model(tmp_path / "model.pt", build_model(make_config("ps-vae"), SHAPE))
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert content.keys() == {"description", "state"}
    assert json.loads(content["description"])["config"]["ps_vae.alpha"] == 10.0
    assert all(isinstance(value, torch.Tensor) for value in content["state"].values())
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    model = build_model(make_config("ae"), SHAPE)
    save_model(path, model)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_model(path, model, extra={"not json": object()})
    assert path.read_bytes() == before
    with pytest.raises(Exception, match="does not exist"):
        save_model(tmp_path / "nowhere" / "model.pt", model)


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (io.open, ("exploited", "w"))


def test_pickle_is_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, write in (
        ("plain.pt", lambda path: path.write_bytes(pickle.dumps(Exploit()))),
        ("zipped.pt", lambda path: torch.save({"state": Exploit()}, path)),
        ("whole.pt", lambda path: torch.save(build_model(make_config("ae"), SHAPE), path)),
    ):
        write(tmp_path / name)
        with pytest.raises(StorageError, match="a pickle"):
            load_model(tmp_path / name)
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.99])
def test_cut_short_file_is_refused(fraction: float, tmp_path: Path) -> None:
    save_model(tmp_path / "model.pt", build_model(make_config("ae"), SHAPE))
    content = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(StorageError, match="cut short"):
        load_model(tmp_path / "model.pt")


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        load_model(tmp_path / "none.pt")
    for content in ([torch.zeros(1)], {"weight": torch.zeros(1)}, {"description": "{}"}):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(StorageError, match="is no model of psvae_tune"):
            load_model(tmp_path / "other.pt")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    for name, settings in (("a", {}), ("b", {"n_ae_latents": 5})):
        save_model(tmp_path / name, build_model(make_config("ae", **settings), SHAPE))
    first, second = (torch.load(tmp_path / name, weights_only=True) for name in "ab")
    torch.save({**first, "state": second["state"]}, tmp_path / "mixed.pt")
    with pytest.raises(StorageError, match="another architecture"):
        load_model(tmp_path / "mixed.pt")
    later = json.loads(first["description"]) | {"format": 99}
    torch.save({**first, "description": json.dumps(later)}, tmp_path / "later.pt")
    with pytest.raises(StorageError, match="format"):
        load_model(tmp_path / "later.pt")


def test_served_model_gives_latents_and_labels_in_users_units(tmp_path: Path) -> None:
    model = build_model(make_config("ps-vae"), SHAPE).eval()
    save_model(tmp_path / "model.pt", model, SCALER)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (N_FRAMES_AT_ONCE + 3, 1, 12, 17), dtype=np.uint8)
    served = _load_pyfunc(str(tmp_path / "model.pt"))
    found, floats = served.predict(frames), served.predict(frames / 255)
    said = model.predict(frames / 255)
    assert said.labels is not None
    assert {name: (a.shape, a.dtype) for name, a in found.items()} == {
        "latents": ((len(frames), 8), np.float32),
        "labels": ((len(frames), 4), np.float32),
    }
    np.testing.assert_allclose(found["latents"], said.mean, atol=1e-5)
    expected = said.labels.numpy() * SCALER.std + SCALER.mean
    np.testing.assert_allclose(found["labels"], expected, rtol=1e-5)
    np.testing.assert_allclose(floats["labels"], found["labels"], rtol=1e-5)


def test_served_model_has_the_units_of_every_session(tmp_path: Path) -> None:
    model = build_model(make_config("msps-vae"), SHAPE).eval()
    scaler = LabelScaler(np.array([[0.0] * 4, [100.0] * 4]), np.array([[1.0] * 4, [2.0] * 4]))
    save_model(tmp_path / "model.pt", model, scaler)
    served = _load_pyfunc(str(tmp_path / "model.pt"))
    frames = make_batch().frames.numpy()
    first, second = (served.predict(frames, session)["labels"] for session in (0, 1))
    np.testing.assert_allclose(second, 2 * first + 100, rtol=1e-5)


def test_served_model_without_labels_gives_none(tmp_path: Path) -> None:
    save_model(tmp_path / "model.pt", build_model(make_config("vae"), SHAPE))
    found = _load_pyfunc(str(tmp_path / "model.pt")).predict(make_batch().frames.numpy())
    assert found.keys() == {"latents"}


@pytest.mark.parametrize(
    "frames", [np.full((2, 1, 12, 17), 255.0), np.zeros((2, 3, 12, 17)), np.zeros((12, 17))]
)
def test_served_model_refuses_other_frames(frames: np.ndarray, tmp_path: Path) -> None:
    save_model(tmp_path / "model.pt", build_model(make_config("vae"), SHAPE))
    with pytest.raises(DataError, match="frames"):
        _load_pyfunc(str(tmp_path / "model.pt")).predict(frames)


def rewrite_scaler(path: Path, scaler: object) -> None:
    """Put other units into a model file."""
    content = torch.load(path, weights_only=True)
    description = json.loads(content["description"]) | {"label_scaler": scaler}
    torch.save({**content, "description": json.dumps(description)}, path)


@pytest.mark.parametrize(
    "std", [[1, 1, 1, 0], [1, -1, 1, 1], [1, 1, 1e300, 1], [1, 1, 1], [1, 1, 1, "x"]]
)
def test_units_that_no_label_has_are_refused(tmp_path: Path, std: list[object]) -> None:
    path = tmp_path / "model.pt"
    save_model(path, build_model(make_config("ps-vae"), SHAPE))
    rewrite_scaler(path, {"mean": [1, 2, 3, 4], "std": std})
    with pytest.raises(StorageError, match="label_scaler must hold a mean and a positive std"):
        load_model(path)


def test_units_that_all_sessions_share_may_be_one_row(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_model(path, build_model(make_config("ps-vae"), SHAPE))
    rewrite_scaler(path, {"mean": [1, 2, 3, 4], "std": [1, 1, 2, 2]})
    scaler = load_model(path).label_scaler
    for session in (0, 1):
        np.testing.assert_array_equal(scaler.inverse(np.ones((1, 4)), session), [[2, 3, 5, 6]])


def test_labels_without_units_are_as_recorded(tmp_path: Path) -> None:
    save_model(tmp_path / "model.pt", build_model(make_config("ps-vae"), SHAPE))
    scaler = load_model(tmp_path / "model.pt").label_scaler
    labels = np.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(scaler.inverse(scaler.transform(labels, 1), 1), labels)

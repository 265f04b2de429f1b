import json

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from psvae_tune.data.label_scaler import LabelScaler, fit_label_scaler
from psvae_tune.data.session import Session, SessionHeader
from psvae_tune.errors import DataError


def make_session(labels, masks, clip_lengths):
    labels = np.array(labels, np.float32)
    masks = np.array(masks, bool)
    names = tuple(f"label_{index}" for index in range(labels.shape[1]))
    clips = tuple(f"trial_{index:04d}" for index in range(len(clip_lengths)))
    return Session(
        SessionHeader("s.h5", clips, tuple(clip_lengths), 1, 2, 2, names, True, False, False),
        np.zeros((len(labels), 1, 2, 2), np.uint8),
        np.where(masks, labels, 0),
        masks,
        None,
        None,
        "",
    )


def test_statistics_of_valid_entries_of_training_clips():
    # Clip 1 is not for training; 99 is masked.
    session = make_session(
        [[1, 10], [3, 99], [500, 500], [5, 30]],
        [[1, 1], [1, 0], [1, 1], [1, 1]],
        [2, 1, 1],
    )
    scaler = fit_label_scaler(session, (0, 2), "zscore")
    np.testing.assert_allclose(scaler.mean, [[3, 20]])
    np.testing.assert_allclose(scaler.std, [[np.sqrt(8 / 3), 10]])


def test_without_masks_equals_the_reference_library():
    rng = np.random.default_rng(0)
    labels = rng.normal(100, [1, 50], (40, 2)).astype(np.float32)
    session = make_session(labels, np.ones_like(labels), [20, 20])
    scaler = fit_label_scaler(session, (0, 1), "zscore")
    reference = StandardScaler().fit_transform(labels.astype(np.float64))
    np.testing.assert_allclose(scaler.transform(labels), reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("scaling", "mean", "std"), [("zscore", 3, 2), ("center", 3, 1), ("none", 0, 1)]
)
def test_scalings(scaling, mean, std):
    session = make_session([[1], [5]], [[1], [1]], [2])
    scaler = fit_label_scaler(session, (0,), scaling)
    assert scaler.to_dict() == {"mean": [[mean]], "std": [[std]]}


def test_inverse_undoes_transform():
    rng = np.random.default_rng(0)
    labels = rng.normal(100, [1, 50], (40, 2)).astype(np.float32)
    scaler = LabelScaler(np.array([[90.0, 110.0]]), np.array([[2.0, 40.0]]))
    np.testing.assert_allclose(scaler.inverse(scaler.transform(labels)), labels, rtol=1e-5)
    assert scaler.transform(labels).dtype == scaler.inverse(labels).dtype == np.float32


def test_every_session_has_its_own_row():
    one, two = (LabelScaler(np.array([[mean]]), np.array([[2.0]])) for mean in (1.0, 5.0))
    both = LabelScaler.join([one, two])
    labels = np.array([[7.0]])
    assert [both.transform(labels, index).item() for index in (0, 1)] == [3, 1]
    assert [both.inverse(labels, index).item() for index in (0, 1)] == [15, 19]
    # A single row is that of all sessions.
    assert one.transform(labels, 1) == one.transform(labels)


def test_json_round_trip_is_exact():
    scaler = LabelScaler(np.array([[1 / 3, 1e-9]]), np.array([[2 / 3, 1e9]]))
    again = LabelScaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    np.testing.assert_array_equal(again.mean, scaler.mean)
    np.testing.assert_array_equal(again.std, scaler.std)


def test_labels_without_information_in_the_training_clips():
    session = make_session(
        [[2, 1, 1], [2, 2, 5], [3, 3, 9]], [[1, 1, 0], [1, 1, 0], [1, 1, 1]], [2, 1]
    )
    with pytest.raises(DataError, match=r"s\.h5: 2 problems") as caught:
        fit_label_scaler(session, (0,), "zscore")
    assert caught.value.problems == (
        "label `label_0` never varies, got 2 in every valid frame, in the training clips",
        "label `label_2` is masked in every frame, in the training clips",
    )

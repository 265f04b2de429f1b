"""When a function is recorded and replayed, with a recorder that calls the function again."""

import weakref
from contextlib import nullcontext

import pytest
import torch

from psvae_tune.models.batch import Batch
from psvae_tune.training.cuda_graphs import MAX_GRAPHS, N_BEFORE, GraphedFunction, make_recorder

CPU = torch.device("cpu")


class Recorder:
    """Records as CUDA does: a recording computes nothing, and a replay fills the same tensors."""

    def __init__(self, error=None):
        self.has_failed = False
        self.error = error
        self.n_recorded = 0
        self.n_replays = 0

    def on_stream(self):
        return nullcontext()

    def record(self, function, batch, rng):
        if self.error:
            raise self.error
        self.n_recorded += 1
        state = rng.get_state()
        outputs = function(batch, rng)
        rng.set_state(state)

        def replay():
            self.n_replays += 1
            for target, value in zip(outputs, function(batch, rng), strict=True):
                if target is not None:
                    target.copy_(value)

        return replay, outputs


def noisy_sum(batch, rng):
    noise = torch.rand(batch.frames.shape, generator=rng)
    labels = None if batch.labels is None else batch.labels.sum(0)
    return (batch.frames.float() * noise).sum(), labels


def make_batch(n=3, value=1.0, dtype=torch.float32, with_labels=True):
    labels = torch.full((n, 2), float(value)) if with_labels else None
    return Batch(torch.full((n, 1, 2, 2), value).to(dtype), labels)


def results(recorder, batches):
    function = GraphedFunction(noisy_sum, CPU, recorder)
    function.rng.manual_seed(5)
    return [function(batch) for batch in batches], function


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert (a is None and b is None) or a.equal(b)


def test_a_replay_gives_what_a_call_would_with_the_same_draws():
    batches = [make_batch(3 + i % 2, value=i) for i in range(20)]
    recorder = Recorder()
    found, _ = results(recorder, batches)
    expected, _ = results(None, batches)
    assert_same(found, expected)
    assert recorder.n_recorded == 2
    assert recorder.n_replays == 20 - 2 * N_BEFORE


@pytest.mark.parametrize(
    "others",
    [{"n": 4}, {"dtype": torch.uint8}, {"with_labels": False}],
    ids=["length", "format", "labels"],
)
def test_batches_that_differ_have_recordings_of_their_own(others):
    batches = [make_batch(), make_batch(**others)] * (N_BEFORE + 2)
    recorder = Recorder()
    found, _ = results(recorder, batches)
    assert recorder.n_recorded == 2
    assert_same(found, results(None, batches)[0])


def test_a_seed_holds_for_replays_too():
    _, function = results(Recorder(), [make_batch()] * (N_BEFORE + 2))
    function.rng.manual_seed(9)
    one = function(make_batch())
    function.rng.manual_seed(9)
    assert_same([function(make_batch())], [one])


def test_what_was_returned_stays_when_others_are_replayed():
    recorder = Recorder()
    _, function = results(recorder, [make_batch()] * (N_BEFORE + 2))
    (_, labels), _ = function(make_batch(value=1)), function(make_batch(value=2))
    assert labels.tolist() == [3, 3]


def test_so_many_shapes_are_recorded_and_others_are_called():
    batches = [make_batch(n) for n in range(1, MAX_GRAPHS + 3)] * (N_BEFORE + 2)
    recorder = Recorder()
    found, _ = results(recorder, batches)
    assert recorder.n_recorded == MAX_GRAPHS
    assert_same(found, results(None, batches)[0])


@pytest.mark.parametrize("error", [RuntimeError("not\npermitted"), torch.OutOfMemoryError("full")])
def test_what_cannot_be_recorded_is_called_with_the_same_draws_after_one_warning(error, caplog):
    batches = [make_batch(3 + i % 2, value=i) for i in range(20)]
    recorder = Recorder(error)
    found, _ = results(recorder, batches)
    more, _ = results(recorder, batches)
    expected, _ = results(None, batches)
    assert_same(found, expected)
    assert_same(more, expected)
    (record,) = caplog.records
    assert "are not recorded as CUDA graphs: " in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_cpu_records_nothing():
    assert make_recorder(CPU) is None


def test_what_is_closed_holds_nothing():
    class Held:
        def __call__(self, batch, rng):
            return (batch.frames.sum(),)

    held = Held()
    reference = weakref.ref(held)
    function = GraphedFunction(held, CPU, Recorder())
    for _ in range(N_BEFORE + 2):
        function(make_batch())
    function.close()
    del held
    assert reference() is None

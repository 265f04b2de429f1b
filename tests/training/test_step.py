"""Steps of the optimiser: what a GPU asks of them, as far as a CPU can show it."""

from functools import partial

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.nn import functional as F

from psvae_tune.config.architecture import Architecture
from psvae_tune.config.settings import setting_names
from psvae_tune.errors import GpuMemoryError
from psvae_tune.models.batch import DataShape
from psvae_tune.models.registry import build_model
from psvae_tune.training import fit as fit_module
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.fit import fit, start
from tests.support.small_models import make_batch, make_config
from tests.support.studies import ARCHITECTURE, make_session
from tests.support.studies import make_config as make_trial_config

CPU = torch.device("cpu")


def limit_frames(monkeypatch, n_most):
    """Have memory for the convolutions of so many frames at a time."""
    convolve = F.conv2d

    def conv2d(x, *arguments, **settings):
        if x.requires_grad and len(x) > n_most:
            raise torch.OutOfMemoryError("full")
        return convolve(x, *arguments, **settings)

    monkeypatch.setattr(F, "conv2d", conv2d)


def metrics_of(**training):
    settings = {"max_n_epochs": 2, "precision": "float32", **training}
    config = make_trial_config(training=settings)
    data = prepare_data([make_session()], config)
    return [report.metrics for report in fit(start(config, data, CPU), data, config)]


def test_a_batch_that_does_not_fit_is_taken_in_parts_with_the_same_numbers(monkeypatch, caplog):
    whole, parts = metrics_of(), metrics_of(micro_batch_size=3)
    limit_frames(monkeypatch, 4)
    found = metrics_of()
    sizes = [record.args[0] for record in caplog.records if "the GPU is full" in record.message]
    assert sizes == [6, 3], "clips have 12 frames"
    assert found == parts
    for one, other in zip(found, whole, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


def test_a_frame_that_does_not_fit_is_an_error_that_says_what_to_do(monkeypatch):
    limit_frames(monkeypatch, 0)
    with pytest.raises(GpuMemoryError, match=r"(?s)12 frames .* in no parts.*shorter"):
        metrics_of()


def test_a_batch_that_cannot_be_split_is_an_error(monkeypatch):
    limit_frames(monkeypatch, 4)
    config = make_trial_config(
        model={"ae_arch_json": {**ARCHITECTURE, "ae_batch_norm": True}},
        training={"max_n_epochs": 2},
    )
    data = prepare_data([make_session()], config)
    with pytest.raises(GpuMemoryError, match="12 frames does not fit into the memory of the GPU"):
        list(fit(start(config, data, CPU), data, config))


def test_a_card_that_is_full_while_adam_begins_costs_no_step(monkeypatch):
    training = {"max_n_epochs": 2, "precision": "float32"}
    config = make_trial_config(training={**training, "micro_batch_size": 6})
    data = prepare_data([make_session()], config)
    expected = [report.metrics for report in fit(start(config, data, CPU), data, config)]
    config = make_trial_config(training=training)
    state = start(config, data, CPU)
    make_zeros, n_made = torch.zeros_like, []

    def zeros_like(*arguments, **settings):
        n_made.append(1)
        if len(n_made) == 5:
            raise torch.OutOfMemoryError("full")
        return make_zeros(*arguments, **settings)

    monkeypatch.setattr(torch, "zeros_like", zeros_like)
    assert [report.metrics for report in fit(state, data, config)] == expected


def fails_forwards(graph, inputs):
    raise RuntimeError("no compiler\nwas found")


def fails_backwards(graph, inputs):
    def refuse(graph, inputs):
        raise RuntimeError("no compiler\nwas found")

    return aot_autograd(fw_compiler=make_boxed_func_of, bw_compiler=refuse)(graph, inputs)


def make_boxed_func_of(graph, inputs):
    return make_boxed_func(graph.forward)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the compiler
@pytest.mark.parametrize("backend", [fails_forwards, fails_backwards])
def test_what_cannot_be_compiled_is_trained_with_the_same_numbers(monkeypatch, caplog, backend):
    expected = metrics_of()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    config = make_trial_config(training={"max_n_epochs": 2, "precision": "float32"})
    data = prepare_data([make_session()], config)
    state = start(config, data, CPU)
    monkeypatch.setattr(fit_module, "_can_compile", lambda state: True)
    monkeypatch.setattr(fit_module, "MIN_COMPILED_STEPS", 1)
    assert [report.metrics for report in fit(state, data, config)] == expected
    (text,) = [record.getMessage() for record in caplog.records if "compiled" in record.msg]
    assert "steps are not compiled: " in text
    assert "\n" not in text


WEIGHTS = [
    {"msp.alpha": 1, "vae.beta": 1, "beta_tcvae.beta": 1, "ps_vae.alpha": 1, "ps_vae.beta": 1},
    {"msp.alpha": 7, "vae.beta": 7, "beta_tcvae.beta": 7, "ps_vae.alpha": 7, "ps_vae.beta": 9},
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the compiler
@pytest.mark.parametrize("name", ["cond-ae-msp", "cond-vae", "ps-vae"])
def test_the_network_and_the_objective_are_one_graph_each_whatever_the_weights(name):
    """What breaks a graph costs much of what compiling gains; files serve the same graph alone."""
    shape = DataShape(n_channels=1, height=32, width=32, n_labels=4, n_sessions=1)
    batch, graphs = make_batch(shape), []
    for weights in WEIGHTS:
        torch.compiler.reset()
        codes = []

        def note(graph, inputs, codes=codes):
            codes.append(graph.code)
            return graph.forward

        config = make_config(name, Architecture())
        known = {
            key: value for key, value in weights.items() if key in setting_names(type(config))
        }
        raw = config.model_dump(mode="json", by_alias=True) | known
        model = build_model(type(config).model_validate(raw), shape)
        encode = torch.compile(model.encode, backend=note, fullgraph=True)
        score = torch.compile(model.terms_of_draws, backend=note, fullgraph=True)
        rng = torch.Generator()
        expected = model.terms(batch, 1.0, rng.manual_seed(0)).loss
        q = encode(batch.frames, batch.labels_sc, batch.session_index)
        loss = score(batch, q, q.sample(rng.manual_seed(0)), rng).loss
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        graphs.append(codes)
    assert len(graphs[0]) == 2
    assert graphs[0] == graphs[1]

"""Agreement between the fits of a stage, from their models in a real store."""

from dataclasses import replace

import mlflow
import numpy as np
import pytest
import torch

from psvae_tune.config.trial import parse_trial_config
from psvae_tune.metrics.latent_dependence import MIN_KL, find_active, mean_kl
from psvae_tune.metrics.seed_agreement import udr
from psvae_tune.models.model_file import load_model, save_model
from psvae_tune.search.seed_agreement import with_udr
from psvae_tune.search.stage_journal import TrialEnd
from psvae_tune.search.trainable import run_trial
from psvae_tune.search.trial_spec import StageContext
from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.outbox import Outbox
from psvae_tune.tracking.tags import TRIAL
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.evaluate import evaluate
from tests.support.studies import ARCHITECTURE, make_config, make_session, make_stage

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def make_context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    uri = f"sqlite:///{folder / 'mlflow.db'}"

    def make(study, **sections):
        target = open_target(uri, "seeds", study, folder / "artifacts")
        base = make_config(training={"max_n_epochs": 3}, **sections)
        study_folder, digests = StudyFolder(folder / study), (make_session().digest,)
        return StageContext(make_stage(name="seeds"), base, study_folder, target, digests, 2)

    return make


def run_all(context, drawn, session):
    """Run trials; return their specifications and their results."""
    specs = context.specs(drawn)
    ends = {}
    for spec in specs:
        *_, last = run_trial(spec, [session], context, CPU)
        ends[spec.trial_id] = TrialEnd("seeds", "finished", "", last.epoch, last.best_metrics)
    return specs, context.results(specs, ends)


@pytest.mark.slow
def test_fits_of_other_seeds_agree_more_or_less(make_context):
    context, session = make_context("several"), make_session()
    drawn = [{"rng_seed_model": seed, "ps_vae.beta": 1} for seed in range(3)]
    drawn.append({"rng_seed_model": 0, "ps_vae.beta": 9})
    specs, trials = run_all(context, drawn, session)
    *scored, alone = with_udr(specs, trials, [session], context)
    assert all(0 <= trial.metrics["udr"] <= 1 for trial in scored)
    assert len({trial.metrics["udr"] for trial in scored}) > 1
    assert "udr" not in alone.metrics
    client = mlflow.MlflowClient(context.target.uri)
    for trial in scored:
        logged = client.get_run(context.target.find_run(TRIAL, trial.trial_id)).data.metrics
        assert logged["best/udr"] == trial.metrics["udr"]
        assert logged["best/udr_spread"] >= 0
    # Without one fit there are fewer pairs, and the numbers that count are the latest.
    fewer = with_udr(specs[:2], trials[:2], [session], context)
    logged = client.get_run(context.target.find_run(TRIAL, fewer[0].trial_id)).data.metrics
    assert logged["best/udr"] == fewer[0].metrics["udr"]
    assert logged["best/udr_spread"] == 0


def test_a_latent_is_active_by_the_frames_that_tell_it_for_all_metrics(make_context, tmp_path):
    """The KL of one latent is on the other side of the threshold over validation frames alone."""
    context, session = make_context("borderline"), make_session()
    specs, trials = run_all(context, [{"rng_seed_model": seed} for seed in range(2)], session)
    data = prepare_data([session], context.base)
    latents, active = [], []
    for spec in specs:
        outbox = Outbox.of(context.folder, context.target, spec.trial_id)
        path = outbox.fetch_file("model.pt", tmp_path)
        model = load_model(path).model
        net, columns = model.net, model.partition.unsupervised
        net.logvar.weight.data.zero_()
        net.logvar.bias.data.zero_()
        seen = evaluate(model, data, "val", CPU)
        kls = [mean_kl(z, np.zeros_like(z)) for z in (seen.mean[:, columns], seen.latents.mean)]
        scale = (MIN_KL / np.sqrt(kls[0][0] * kls[1][0])) ** 0.5
        net.mean.weight.data *= scale
        net.mean.bias.data *= scale
        seen = evaluate(model, data, "val", CPU)
        z = seen.mean[:, columns]
        assert find_active(z, np.zeros_like(z))[0] != seen.latents.is_active[0]
        latents.append(z)
        active.append(seen.latents.is_active)
        save_model(path, model)
        outbox.log_folder(path.parent)
    found = with_udr(specs, trials, [session], context)
    expected = udr(latents, active).per_fit
    assert [trial.metrics["udr"] for trial in found] == pytest.approx(list(expected))


def test_models_without_a_posterior_have_no_agreement(make_context):
    raw = {"model": {"model_class": "ae", "n_ae_latents": 2, "ae_arch_json": ARCHITECTURE}}
    raw["training"] = {"max_n_epochs": 1}
    context, session = make_context("points"), make_session()
    context = replace(context, base=parse_trial_config(raw, "test"))
    drawn = [{"rng_seed_model": seed} for seed in range(2)]
    specs, trials = run_all(context, drawn, session)
    assert with_udr(specs, trials, [session], context) == trials

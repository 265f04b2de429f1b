"""Reports and choices of studies that are not whole, or that somebody has overruled."""

import pytest

from psvae_tune.errors import StudyError
from psvae_tune.results.choices import override
from psvae_tune.results.report import make_report
from psvae_tune.results.report_data import make_study_figures
from tests.support.logged_studies import data_of, log_study, with_space


@pytest.mark.slow
def test_a_person_may_choose_otherwise_and_history_is_kept(folder, recording):
    study = log_study(folder, recording, "override", with_space({
        "ps_vae.alpha": {"grid_search": [10, 1000]}
    }))  # fmt: skip
    first = study.chosen
    (other,) = (trial for trial in study.trials if trial != first)
    changed = override(study, other, "ada", "<i>cleaner</i> `whisker`")
    assert changed.chosen.run_id == other.run_id
    again = override(changed, changed.find_trial(first.run_id), "bob", "")
    assert [item["by"] for item in again.choices] == ["rule", "ada", "bob"]
    assert [item["run_id"] for item in again.choices] == [
        first.run_id,
        other.run_id,
        first.run_id,
    ]
    report = make_report(changed, {})
    assert "Chosen by ada" in report
    assert "<i>cleaner" not in report


@pytest.mark.slow
def test_failed_and_stopped_trials_among_good_ones(folder, recording):
    study = log_study(folder, recording, "mixed", n_cut=1, n_failed=1)
    assert len(study.finished) == 1
    report = make_report(study, dict(make_study_figures(study)))
    assert "3 trials: 1 finished, 1 stopped early, 1 failed." in report
    with pytest.raises(StudyError, match="has not finished, got no longer finite"):
        override(study, study.trials[2], "ada", "")


@pytest.mark.slow
def test_one_unsupervised_latent_and_none(folder, recording):
    raw = with_space({"n_ae_latents": {"grid_search": [4, 5]}}, **{"ps_vae.alpha": 10})
    study = log_study(folder, recording, "few", raw)
    report = make_report(study, dict(make_study_figures(study)))
    assert {row["params"]["n_ae_latents"] for row in data_of(report)["trials"]} == {4, 5}

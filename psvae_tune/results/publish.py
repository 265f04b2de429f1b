"""Puts the description, tags, figures and report of a study into its MLflow run."""

from pathlib import Path
from tempfile import TemporaryDirectory

from psvae_tune.files import write_bytes
from psvae_tune.results.logged_study import LoggedStudy
from psvae_tune.results.report import make_report
from psvae_tune.results.report_data import explain_choice, make_study_figures
from psvae_tune.tracking.chart_view import save_view
from psvae_tune.tracking.client import writing
from psvae_tune.tracking.study_run import StudyRun
from psvae_tune.tracking.tags import PARETO

REPORT = "report.html"


def publish(study: LoggedStudy) -> bytes:
    """Make the figures and the report of a study and keep them in its run.

    Side effects: writes artifacts, the description and tags to MLflow.

    Returns
    -------
    bytes
        The report, an HTML file.

    Raises
    ------
    StudyError
        If no trial has finished.
    TrackingError
        If the store cannot be written.
    """
    figures = dict(make_study_figures(study)) if study.finished else {}
    report = make_report(study, figures).encode()
    run = StudyRun(study.target, study.run_id)
    hint = "write the report to a file with psvae-tune report --file"
    with writing(f"run {study.run_id}", hint), TemporaryDirectory() as folder:
        root = Path(folder)
        write_bytes(root / REPORT, report)
        for name, content in figures.items():
            write_bytes(root / "figures" / name, content)
        run.log_folder(root)
        run.describe(to_markdown(study))
        run.mark([trial.trial_id for trial in study.front()], PARETO)
        save_view(study.target, study.varied, _shown_metrics(study))
    return report


def to_markdown(study: LoggedStudy) -> str:
    """Return the description of a study as Markdown: the recommendation and its reasons."""
    sentence, reasons = explain_choice(study)
    parts = [f"**{sentence}**", "\n".join(f"- {reason}" for reason in reasons)]
    if study.chosen is not None:
        parts.append(f"Chosen trial: `{study.chosen.name}`, run `{study.chosen.run_id}`.")
    for name, item in study.selection.items():
        parts.append(f"Stage {name} chose `{item['name']}`.")
    parts.append(f"Everything side by side: `{REPORT}` among the artifacts of the study's run.")
    return "\n\n".join(part for part in parts if part)


def _shown_metrics(study: LoggedStudy) -> list[str]:
    """Return the metrics that the view of the trials shows: of the front, then of the latents."""
    others = ("latent_correlation", "leak_r2", "session_accuracy_u")
    present = [
        name for name in others if any(f"best/{name}" in trial.metrics for trial in study.trials)
    ]
    return list(dict.fromkeys([*study.front_metrics, *present]))

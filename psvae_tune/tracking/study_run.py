"""The run of a study in MLflow, beside the runs of its trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from psvae_tune.files import folder_of
from psvae_tune.tracking.client import RunStatus, TrackingTarget
from psvae_tune.tracking.mlflow_private import DESCRIPTION, keep_files
from psvae_tune.tracking.tags import KIND, STUDY, TRIAL
from psvae_tune.tracking.trial_run import describe


@dataclass(frozen=True, slots=True)
class StudyRun:
    """The run that describes a whole study; the driver writes it."""

    target: TrackingTarget
    run_id: str

    @classmethod
    def open(cls, target: TrackingTarget, params: Mapping[str, Any]) -> Self:
        """Find the run of a study and go on in it, or create it."""
        client = target.client()
        run_id = target.find_run(KIND, "study")
        if run_id is None:
            tags = {KIND: "study", STUDY: target.study}
            run = client.create_run(
                target.experiment_id, tags=tags, run_name=f"study {target.study}"
            )
            run_id = run.info.run_id
        else:
            client.update_run(run_id, status="RUNNING")
        describe(client, run_id, params, [])
        return cls(target, run_id)

    def describe(self, text: str) -> None:
        """Set the description (Markdown) of the study's run and of its experiment."""
        client = self.target.client()
        client.set_tag(self.run_id, DESCRIPTION, text)
        client.set_experiment_tag(self.target.experiment_id, DESCRIPTION, text)

    def log_text(self, text: str, name: str) -> None:
        """Keep a text as an artifact of the study's run."""
        with folder_of(name, text) as folder:
            self.log_folder(folder)

    def log_folder(self, folder: Path) -> None:
        """Keep every file of a folder, under its path there, as an artifact of the run."""
        client = self.target.client()
        artifacts = client.get_run(self.run_id).info.artifact_uri
        keep_files(client, self.run_id, artifacts, folder)

    def mark(self, trial_ids: Sequence[str], tag: str) -> None:
        """Set a tag on the runs of these trials, and remove it from all others of the study."""
        client = self.target.client()
        runs = client.search_runs(
            [self.target.experiment_id],
            f"tags.`{STUDY}` = '{self.target.study}' AND tags.`{KIND}` = 'trial'"
            f" AND tags.`{tag}` = 'true'",
            max_results=5000,
        )
        marked = {run.data.tags.get(TRIAL): run.info.run_id for run in runs}
        for trial_id in marked.keys() - set(trial_ids):
            client.delete_tag(marked[trial_id], tag)
        for trial_id in set(trial_ids) - marked.keys():
            run_id = self.target.find_run(TRIAL, trial_id)
            if run_id is not None:
                client.set_tag(run_id, tag, "true")

    def close(self, status: RunStatus) -> None:
        """End the run."""
        # A late answer may have created more than one run of the study. This deletes the others.
        self.target.find_run(KIND, "study")
        self.target.client().set_terminated(self.run_id, status)

"""The outcome of a study, as a person in a notebook looks at it.

The file is long because users read `StudyResult`, and each method tells all about itself.
"""

import getpass
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from psvae_tune.errors import StorageError, TrackingError
from psvae_tune.files import write_bytes
from psvae_tune.metrics.sampling_error import error_key
from psvae_tune.results.choices import describe_origin, override, promote
from psvae_tune.results.judgements import Judgement, read_judgements
from psvae_tune.results.logged_study import LoggedStudy
from psvae_tune.results.publish import publish
from psvae_tune.results.report import make_report
from psvae_tune.results.report_data import explain_choice, make_study_figures, trial_rows
from psvae_tune.results.trial_record import TrialRecord

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from psvae_tune.results.fitted_model import FittedModel
    from psvae_tune.results.predictions import Predictions


@dataclass(frozen=True, slots=True, repr=False)
class StudyResult:
    """The trials of a study, the chosen one, and what can be done with them.

    Everything is read from MLflow, so that a study can be looked at from any machine that
    reaches its tracking store, also while it runs.

    Parameters
    ----------
    logged
        The study as MLflow holds it.

    Examples
    --------
    >>> import psvae_tune as pt
    >>> result = pt.open_study("ps-vae-20261123-214202")  # doctest: +SKIP
    >>> result.best.params["ps_vae.alpha"]  # doctest: +SKIP
    50
    """

    logged: LoggedStudy

    def __repr__(self) -> str:
        chosen = self.logged.chosen
        end = "nothing chosen yet" if chosen is None else f"chosen {self.logged.label(chosen)}"
        return f"<StudyResult {self.name!r}: {len(self.logged.trials)} trials, {end}>"

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.logged.name

    @property
    def best(self) -> TrialRecord:
        """The chosen trial: its ``params``, its ``metrics`` and its ``run_id`` in MLflow.

        Raises
        ------
        StudyError
            If nothing is chosen yet.
        """
        return self.logged.require_chosen()

    def trials(self) -> "DataFrame":
        """Return all trials, one a row, in the order in which they began.

        Returns
        -------
        pandas.DataFrame
            The index is the name of the trial. Columns are ``stage``, ``state``, ``is_chosen``,
            ``is_front``, ``run_id``, the varied hyperparameters, and metrics: ``best/…`` of the
            best epoch on the validation split, ``best/…_error`` its sampling error over clips,
            ``test/…`` on the test split. A metric that a trial lacks is NaN.
        """
        from pandas import DataFrame

        rows = [
            {
                "trial": row["name"],
                **{key: row[key] for key in ("stage", "state", "is_chosen", "is_front", "run_id")},
                **row["params"],
                **row["metrics"],
                **{error_key(key): error for key, error in row["errors"].items()},
            }
            for row in trial_rows(self.logged)
        ]
        columns = None if rows else ["trial"]
        return DataFrame(rows, columns=columns).set_index("trial")

    def pareto_front(self) -> "DataFrame":
        """Return the trials of the front, as rows of `trials`.

        It holds the finished trials that meet what is required and that no other such dominates.

        The metrics are the two that the study's figure of the front shows, usually
        ``best/frame_mse`` and ``best/label_r2``.
        """
        table = self.trials()
        return table[table["is_front"]] if len(table) else table

    def explain(self) -> list[str]:
        """Return the recommendation and its reasons, a sentence each."""
        sentence, reasons = explain_choice(self.logged)
        return [sentence, *reasons]

    def choose(self, trial: str, reason: str = "") -> "StudyResult":
        """Choose another trial than the rule did, and keep who did it and why.

        Parameters
        ----------
        trial
            Name, run or id of a finished trial.
        reason
            Reason for the choice, kept beside it.

        Returns
        -------
        StudyResult
            The study as it is now. Side effects: moves a tag in MLflow and makes the report
            again.

        Raises
        ------
        StudyError
            If there is no such trial, or it has not finished.
        TrackingError
            If the store cannot be written; then the choice is what it was.
        """
        record = self.logged.find_trial(trial)
        return StudyResult(override(self.logged, record, getpass.getuser(), reason))

    def judge(
        self, rater: str | None = None, on_ready: Callable[[str], object] = print
    ) -> "StudyResult":
        """Serve a page on which a person judges pairs of trials and does not see which they are.

        The page is on the loopback address, and shows the trials of the front. Each answer is kept
        at once in the study's run. Returns when a trial is chosen on the page.

        Parameters
        ----------
        rater
            Name of the person; by default that of the user.
        on_ready
            Called with the address of the page.

        Returns
        -------
        StudyResult
            The study as it is after the choice. Side effects: writes to MLflow.

        Raises
        ------
        StudyError
            If fewer than two trials of the front have pictures.
        TrackingError
            If the store cannot be read.
        """
        from psvae_tune.results.judge_server import JudgeServer

        server = JudgeServer(self.logged, rater or getpass.getuser())
        on_ready(server.url)
        return StudyResult(server.serve())

    def judgements(self) -> "DataFrame":
        """Return what people said of pairs of trials, one judgement a row, the latest last.

        Returns
        -------
        pandas.DataFrame
            Columns are ``time``, ``by``, ``left`` and ``right``, which are names of trials,
            ``better`` and ``reason``.
        """
        from pandas import DataFrame

        names = {trial.run_id: self.logged.label(trial) for trial in self.logged.trials}
        rows = [
            {**asdict(item), "left": names.get(item.left), "right": names.get(item.right)}
            for item in read_judgements(self.logged)
        ]
        return DataFrame(rows, columns=[field.name for field in fields(Judgement)])

    def promote(self, name: str) -> str:
        """Register the model of the chosen trial in MLflow's model registry.

        Parameters
        ----------
        name
            Name of the registered model.

        Returns
        -------
        str
            URI of the model, ``models:/NAME@champion``, which `psvae_tune.load_model` takes.

        Raises
        ------
        StudyError
            If nothing is chosen yet.
        TrackingError
            If the registry refuses.
        """
        promote(self.logged, name)
        return f"models:/{name}@champion"

    def report(self, path: Path | str | None = None) -> bytes:
        """Make the figures and the report of the study.

        Parameters
        ----------
        path
            File to write the report to. Without one the report, the figures and the description
            in the study's run are made anew; with one MLflow stays as it is.

        Returns
        -------
        bytes
            The report, one HTML file that needs no other.

        Raises
        ------
        StorageError
            If the file cannot be written.
        TrackingError
            If the store cannot be read or written.
        """
        if path is None:
            return publish(self.logged)
        figures = dict(make_study_figures(self.logged)) if self.logged.finished else {}
        content = make_report(self.logged, figures).encode()
        try:
            write_bytes(Path(path), content)
        except OSError as error:
            raise StorageError(str(path), f"cannot be written: {error.strerror}") from error
        return content

    def to_optuna(self, storage: str, folder: Path | str | None = None) -> Path:
        """Write the study to a storage of Optuna, for ``optuna-dashboard`` and Optuna's plots.

        Each stage becomes a study of its own, ``STUDY/STAGE``, because a study of Optuna has one
        set of objectives. It holds the trials that the stage compares, each with its state
        (complete, pruned if it was stopped early, failed), its hyperparameters and their ranges,
        its objectives, how far it is from what is required (0 or less if it meets it), and its
        pictures.

        Parameters
        ----------
        storage
            URL of a database, such as ``sqlite:///study.db``; an absent SQLite file is made.
        folder
            Folder for the pictures; by default ``study.artifacts`` beside ``study.db``, and
            ``STUDY.artifacts`` here for a database that is no SQLite file.

        Returns
        -------
        Path
            The folder of the pictures, the ``--artifact-dir`` of ``optuna-dashboard``.

        Raises
        ------
        StorageError
            If the storage or the folder cannot be used, or the storage holds the study already.
        StudyError
            If the study does not tell its stages.
        TrackingError
            If the tracking store cannot be read.
        """
        from psvae_tune.results.optuna_study import write_to_optuna

        return write_to_optuna(self.logged, storage, None if folder is None else Path(folder))

    def predictions(self, trial: str | None = None) -> "tuple[Predictions, ...]":
        """Return the latents and the predicted labels of a trial, one item a session.

        Parameters
        ----------
        trial
            Name, run or id of the trial; by default the chosen one.

        Returns
        -------
        tuple of Predictions
            Each has ``to_frame()``, a table with one row a frame: ``session``, ``clip``,
            ``frame_index``, ``time_s``, latents, labels, and masks of the labels.
            `psvae_tune.write_predictions` writes it to a file.

        Raises
        ------
        StudyError
            If there is no such trial, or nothing is chosen yet.
        TrackingError
            If the trial's run holds no latents.
        """
        from psvae_tune.results.trial_latents import read_predictions

        record = self.logged.find_trial(trial) if trial else self.best
        return read_predictions(self.logged, record)

    def best_model(self, device: "torch.device | str" = "cpu") -> "FittedModel":
        """Return the model of the chosen trial, at its best epoch.

        Parameters
        ----------
        device
            Device that the model is put on.

        Raises
        ------
        StudyError
            If nothing is chosen yet.
        TrackingError
            If the trial's run holds no model.
        """
        from psvae_tune.models.model_file import load_model
        from psvae_tune.results.fitted_model import FittedModel

        content = self.logged.read_artifact(self.best.run_id, "model.pt")
        if content is None:
            raise TrackingError(f"run {self.best.run_id}", "holds no `model.pt`")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.pt"
            path.write_bytes(content)
            origin = describe_origin(self.logged, self.best)
            return FittedModel(load_model(path, device), origin)

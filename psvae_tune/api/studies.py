"""Studies: read, run, opened and recommended.

Every function imports what it needs when it is called, so that `import psvae_tune` stays quick.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psvae_tune.api.arguments import names_nearest_argument

if TYPE_CHECKING:
    from psvae_tune.results.study_result import StudyResult
    from psvae_tune.study.plan import StudyPlan
    from psvae_tune.study.start import RunObserver

DEFAULT_OUTPUT = "psvae_tune_studies"


@names_nearest_argument
def load_study(
    file: Path | str,
    *,
    data: Sequence[Path | str] = (),
    settings: Mapping[str, Any] | None = None,
) -> "StudyPlan":
    """Read a search-space file and check it against its recordings; nothing is trained.

    Parameters
    ----------
    file
        YAML file, or the folder or URL of a study that has begun.
    data
        Recordings that replace those of the file: HDF5 files, a sessions CSV, or ``demo``.
    settings
        Values that replace those of the file. Keys are dotted places, such as
        ``training.max_n_epochs`` or ``search.stages.alpha.space.ps_vae.alpha``.

    Returns
    -------
    StudyPlan
        The study, ready to be handed to `run_study`.

    Raises
    ------
    ConfigError
        If the file or a setting is wrong; the error holds every problem.
    DataError
        If a recording cannot be used, or the recordings do not go together.
    StorageError
        If the folder holds no study.

    Examples
    --------
    >>> import psvae_tune as pt
    >>> study = pt.load_study(
    ...     "search_spaces/ps_vae.yaml", data=["demo"], settings={"training.max_n_epochs": 60}
    ... )
    >>> [stage.name for stage in study.study.stages]
    ['start', 'alpha', 'beta', 'seeds']
    """
    from psvae_tune.config.study_file import apply_settings, read_study_file
    from psvae_tune.files import is_url, locate
    from psvae_tune.study.plan import make_plan
    from psvae_tune.tracking.folders import OutputFolder

    if not is_url(str(file)) and Path(file).is_file():
        raw = read_study_file(Path(file), settings or {}, [str(item) for item in data])
        return make_plan(raw, str(file))
    root = locate(str(file))
    folder = OutputFolder(root.parent).study(root.name)
    if not is_url(str(file)) and not folder.study_file.exists():
        raw = read_study_file(Path(file))  # raises what is wrong with such a file
    raw = folder.read_study_file()
    apply_settings(raw, settings or {})
    return make_plan(raw, str(folder.study_file))


@names_nearest_argument
def run_study(
    study: "StudyPlan | Path | str",
    output: Path | str = DEFAULT_OUTPUT,
    *,
    name: str | None = None,
    tracking_uri: str | None = None,
    address: str | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    observer: "RunObserver | None" = None,
) -> "StudyResult":
    """Run a study to its end and return what it found.

    Parameters
    ----------
    study
        Plan from `load_study`, or a file that `load_study` takes.
    output
        Folder, or URL, of all studies.
    name
        Name of the study; by default that of its experiment, with the time.
    tracking_uri
        Tracking store or server of MLflow; by default that of the file, else an SQLite file in
        ``output``.
    address
        Ray cluster to run on: ``auto`` on one of its nodes, or ``ray://HEAD:10001``.
    resume
        Whether a study of this name goes on from where it was interrupted. Without it the name
        of an existing study is refused.
    accept_changes
        Whether a study is resumed although its settings or recordings have changed.
    observer
        Told of everything that happens; by default a table of progress in the terminal or the
        notebook. `psvae_tune.study.start.SilentObserver` shows nothing.

    Returns
    -------
    StudyResult
        The trials and the choice.

    Raises
    ------
    UserError
        If something stands in the way; then nothing has been trained.
    StudyError
        If the study was interrupted, which `resume` mends, or no trial can be chosen.
    TrackingError
        If the study has ended and its tracking server has not taken everything yet.

    Examples
    --------
    >>> import psvae_tune as pt
    >>> result = pt.run_study(pt.load_study("search_spaces/ps_vae.yaml"))  # doctest: +SKIP
    >>> result.explain()[0]  # doctest: +SKIP
    'Take ps_vae.alpha = 50, ps_vae.beta = 1, rng_seed_model = 0 (frame_mse 0.005414, ...'
    """
    from contextlib import nullcontext

    from psvae_tune.errors import TrackingError
    from psvae_tune.files import locate
    from psvae_tune.results.logged_study import open_study as open_logged
    from psvae_tune.results.study_result import StudyResult
    from psvae_tune.study.progress_table import show_progress
    from psvae_tune.study.start import start_study
    from psvae_tune.tracking.folders import OutputFolder
    from psvae_tune.tracking.study_name import check_name_is_free, claim_name

    plan = load_study(study) if isinstance(study, str | Path) else study
    folder = OutputFolder(locate(str(output)))
    if name is not None and not resume:
        check_name_is_free(folder, name)
    claim = claim_name(folder, plan.study.experiment_name) if name is None else nullcontext(name)
    show = show_progress(plan) if observer is None else nullcontext(observer)
    with claim as claimed, show as seen:
        outcome = start_study(
            plan,
            folder,
            claimed,
            seen,
            tracking_uri=tracking_uri,
            address=address,
            accept_changes=accept_changes,
        )
    if outcome.logged is None:
        raise TrackingError(
            f"study {name}",
            "has ended, and its choice waits for the tracking server",
            hint=f"psvae-tune sync {outcome.location.folder.root} delivers it",
        )
    target = outcome.location.target
    return StudyResult(open_logged(target.uri, target.study))


@names_nearest_argument
def open_study(
    study: Path | str,
    *,
    output: Path | str = DEFAULT_OUTPUT,
    tracking_uri: str | None = None,
) -> "StudyResult":
    """Open a study that has ended, or that still runs.

    Parameters
    ----------
    study
        Name or folder of the study.
    output
        Folder of all studies, where the name is looked for.
    tracking_uri
        Tracking store or server of MLflow that holds the study; by default the one in its
        folder's notes, else the SQLite file in ``output``.

    Returns
    -------
    StudyResult
        The study as it is now.

    Raises
    ------
    StorageError
        If there is no store to look into.
    TrackingError
        If the store does not answer, or does not know the study.

    Examples
    --------
    >>> import psvae_tune as pt
    >>> result = pt.open_study("ps-vae-20261123-214202")  # doctest: +SKIP
    >>> result.trials()[["best/frame_mse", "best/label_r2"]]  # doctest: +SKIP
    """
    from psvae_tune.results.find_study import find_study
    from psvae_tune.results.study_result import StudyResult

    return StudyResult(find_study(str(study), Path(output), tracking_uri))


@names_nearest_argument
def recommend_study(
    session: Path | str,
    hours: float | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> str:
    """Write a search-space file for one recording, with a reason beside each value.

    Parameters
    ----------
    session
        Recording with labels.
    hours
        Hours within which the study should end on this machine; fits then get fewer epochs.
    progress
        Called with the name of each step.

    Returns
    -------
    str
        Text of the file, which `load_study` reads once it is saved.

    Raises
    ------
    DataError
        If the recording cannot be used, or has fewer clips than a study needs.
    ConfigError
        If no study ends within so few hours.

    Examples
    --------
    >>> import psvae_tune as pt
    >>> text = pt.recommend_study("mouse.h5", hours=8)  # doctest: +SKIP
    >>> pathlib.Path("mouse.yaml").write_text(text)  # doctest: +SKIP
    """
    from psvae_tune.data.demo import session_path
    from psvae_tune.study.recommend import recommend_study

    return recommend_study(str(session_path(str(session))), hours, progress)

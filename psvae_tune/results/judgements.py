"""People judge trials by their pictures, two at a time, and do not see which trials they are."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import combinations

from psvae_tune.errors import StudyError
from psvae_tune.results.logged_study import LoggedStudy
from psvae_tune.results.trial_record import TrialRecord
from psvae_tune.tracking.client import writing
from psvae_tune.tracking.study_run import StudyRun

JUDGEMENTS = "judgements.json"
"""Artifact of a study's run with all judgements."""
MAX_TRIALS = 6
"""Number of trials whose pairs are judged: 15 pairs, some minutes."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a person says of two trials."""

    time: str
    by: str
    left: str
    """Run of the trial that was shown on the left."""
    right: str
    better: str
    """``left``, ``right`` or ``neither``."""
    reason: str = ""

    @property
    def pair(self) -> tuple[str, str]:
        """The runs of both trials, the same whichever was on the left."""
        return _pair(self.left, self.right)

    @property
    def verdict(self) -> str:
        """Run of the better trial; empty if neither is."""
        return {"left": self.left, "right": self.right, "neither": ""}[self.better]


def _pair(one: str, other: str) -> tuple[str, str]:
    return (min(one, other), max(one, other))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two people judge alike."""

    raters: tuple[str, str]
    n_pairs: int
    """Number of pairs that both have judged."""
    share: float
    """Share of these pairs on which both say the same."""
    kappa: float | None
    """Cohen's kappa; None where chance alone would give full agreement."""


def draw_pairs(
    study: LoggedStudy, trials: Sequence[TrialRecord], rater: str
) -> list[tuple[TrialRecord, TrialRecord]]:
    """Return the pairs that a person has not judged yet, in an order and on sides of chance.

    Order and sides depend on the study and the person alone, so that one who comes back goes on.

    Parameters
    ----------
    study
        The study.
    trials
        Trials to compare; those after the first `MAX_TRIALS` are left out.
    rater
        Name of the person.
    """
    rng = random.Random(f"{study.run_id} {rater}")
    pairs = [tuple(rng.sample(pair, 2)) for pair in combinations(trials[:MAX_TRIALS], 2)]
    rng.shuffle(pairs)
    done = {item.pair for item in read_judgements(study) if item.by == rater}
    return [(left, right) for left, right in pairs if _pair(left.run_id, right.run_id) not in done]


def read_judgements(study: LoggedStudy) -> list[Judgement]:
    """Return all judgements of a study, the latest last."""
    raw = study.read_artifact(study.run_id, JUDGEMENTS)
    return [] if raw is None else [Judgement(**item) for item in json.loads(raw)]


def add_judgement(
    study: LoggedStudy,
    rater: str,
    pair: tuple[TrialRecord, TrialRecord],
    better: str,
    reason: str = "",
) -> None:
    """Keep a judgement in the study's history. Side effects: writes to the study's run.

    Raises
    ------
    StudyError
        If it is none of the three answers.
    TrackingError
        If the store cannot be written.
    """
    if better not in ("left", "right", "neither"):
        raise StudyError("judgement", f"must be left, right or neither, got {better!r}")
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    new = Judgement(now, rater, pair[0].run_id, pair[1].run_id, better, reason)
    history = [asdict(item) for item in (*read_judgements(study), new)]
    with writing(f"run {study.run_id}"):
        StudyRun(study.target, study.run_id).log_text(json.dumps(history, indent=2), JUDGEMENTS)


def count_wins(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Return for each trial, by its run, the share of its pairs that it won; a draw is half.

    Of two judgements of one pair by one person, the later counts.
    """
    points: dict[str, list[float]] = {}
    for item in {(item.by, item.pair): item for item in judgements}.values():
        for run in item.pair:
            points.setdefault(run, []).append(0.5 if not item.verdict else item.verdict == run)
    return {run: sum(values) / len(values) for run, values in points.items()}


def measure_agreement(judgements: Sequence[Judgement]) -> list[Agreement]:
    """Return how far each two people agree on the pairs that both have judged.

    Of two judgements of one pair by one person, the later counts.
    """
    from sklearn.metrics import cohen_kappa_score

    by_rater: dict[str, dict[tuple[str, str], str]] = {}
    for item in judgements:
        answer = "neither" if not item.verdict else str(item.pair.index(item.verdict))
        by_rater.setdefault(item.by, {})[item.pair] = answer
    found = []
    for one, other in combinations(sorted(by_rater), 2):
        shared = [*(by_rater[one].keys() & by_rater[other].keys())]
        if not shared:
            continue
        answers = [(by_rater[one][pair], by_rater[other][pair]) for pair in shared]
        share = sum(a == b for a, b in answers) / len(answers)
        is_varied = len({answer for both in answers for answer in both}) > 1
        kappa = cohen_kappa_score(*zip(*answers, strict=True)) if is_varied else None
        found.append(Agreement((one, other), len(answers), share, kappa))
    return found

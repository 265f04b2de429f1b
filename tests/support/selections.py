"""Trials with a weight on the labels, and rules that choose from them."""

from hypothesis import strategies as st

from psvae_tune.config.selection_rule import parse_rule
from psvae_tune.search.selection.select import select
from psvae_tune.tracking.trial_result import N_UNSUPERVISED, TrialResult

GOALS = {"val/frame_mse": "min", "val/label_r2": "max"}
ALPHA_RULE = {
    "within": {"metric": "val/label_r2", "tolerance": 0.05},
    "then": {"ps_vae.alpha": "min"},
}
BEST_R2 = {"best": "val/label_r2"}
BOTH = ["val/frame_mse", "val/label_r2"]


def trial(alpha, r2, mse, seed=None, completed=True, active=2, **metrics):
    seed_name = "" if seed is None else f" seed={seed}"
    return TrialResult(
        trial_id=f"{alpha}-{seed}",
        name=f"alpha={alpha}{seed_name}",
        params={"ps_vae.alpha": alpha, "rng_seed_model": seed or 0, N_UNSUPERVISED: 2},
        metrics={
            "val/label_r2": r2,
            "val/frame_mse": mse,
            "val/active_units": active,
            **metrics,
        },
        completed=completed,
    )


TABLE = [
    trial(50, 0.80, 0.010),
    trial(100, 0.89, 0.011),
    trial(500, 0.92, 0.014),
    trial(1000, 0.93, 0.020),
]


VALUES = st.integers(0, 6).map(lambda i: i / 4)


def choose(trials, rule):
    return select(trials, parse_rule(rule), GOALS)

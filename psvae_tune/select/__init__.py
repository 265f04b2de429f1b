"""Rules that choose a trial and explain the choice."""

from psvae_tune.select.candidates import N_UNSUPERVISED, TrialResult
from psvae_tune.select.choose import Selection, pareto_front, select

__all__ = ["N_UNSUPERVISED", "Selection", "TrialResult", "pareto_front", "select"]

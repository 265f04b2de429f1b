"""Numbers that may be compared between trials: pure functions of arrays of a whole split.

A metric that the data or the model cannot have is None, never nan and never a made-up number.
"""

from psvae_tune.metrics.disentanglement import DCI, dci, mig, sap
from psvae_tune.metrics.label_prediction import LabelR2, label_mse, label_r2, leak_r2
from psvae_tune.metrics.latent_dependence import (
    active_units,
    gaussian_tc,
    hsic,
    latent_correlation,
    mean_kl,
)
from psvae_tune.metrics.seed_agreement import UDR, udr
from psvae_tune.metrics.session_leakage import session_accuracy
from psvae_tune.metrics.traversal_localisation import Localisation, traversal_localisation

__all__ = [
    "DCI",
    "UDR",
    "LabelR2",
    "Localisation",
    "active_units",
    "dci",
    "gaussian_tc",
    "hsic",
    "label_mse",
    "label_r2",
    "latent_correlation",
    "leak_r2",
    "mean_kl",
    "mig",
    "sap",
    "session_accuracy",
    "traversal_localisation",
    "udr",
]

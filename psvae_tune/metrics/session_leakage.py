"""Measure whether latents tell sessions apart."""

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.arrays import Floats, standardise


def session_accuracy(
    latents_train: Floats,
    session_train: NDArray[np.integer],
    latents: Floats,
    session: NDArray[np.integer],
) -> float | None:
    """Return the accuracy of a linear classifier of the session from the latents.

    Logistic regression on standardised latents, fitted on one split and scored on another. The
    score is the mean over sessions of the fraction of their frames classified correctly, so
    chance is 1/sessions however unequal the sessions are in length.

    Parameters
    ----------
    latents_train, latents
        (frame, latent) to fit on, and to score
    session_train, session
        (frame,) index of the session of each of these frames

    Returns
    -------
    float or None
        Accuracy in [0, 1]; None without latents, with one session to learn from, or without
        frames to score
    """
    if latents.shape[1] == 0 or len(latents) == 0 or len(np.unique(session_train)) < 2:
        return None
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(class_weight="balanced", max_iter=1000)
    classifier.fit(standardise(latents_train), session_train)
    correct = classifier.predict(standardise(latents, latents_train)) == session
    return float(np.mean([correct[session == index].mean() for index in np.unique(session)]))

"""Measure whether latents tell sessions apart."""

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.arrays import Floats, standardise

Sessions = NDArray[np.integer]


def predict_sessions(latents_train: Floats, session_train: Sessions, latents: Floats) -> Sessions:
    """Return the session that a linear classifier reads from the latents of each frame.

    Logistic regression on standardised latents; sessions weigh the same, whatever their length.
    Without latents every frame is given the same session.

    Parameters
    ----------
    latents_train, latents
        (frame, latent) to fit on, and to classify
    session_train
        (frame,) index of the session of each training frame; two sessions at least

    Returns
    -------
    NDArray
        (frame,)
    """
    if latents.shape[1] == 0:
        return np.full(len(latents), session_train[0])
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(class_weight="balanced", max_iter=1000)
    classifier.fit(standardise(latents_train), session_train)
    return np.asarray(classifier.predict(standardise(latents, latents_train)))


def session_accuracy(session: Sessions, session_hat: Sessions, n_sessions: int) -> float | None:
    """Return the accuracy of predicted sessions, at least that of chance.

    The score is the mean over sessions of the fraction of their frames classified correctly, so
    chance is 1/sessions however unequal the sessions are in length. An accuracy below it is luck,
    and counts as chance: it would else be rewarded where less is better.

    Parameters
    ----------
    session, session_hat
        (frame,) index of the session of each frame, as recorded and as predicted
    n_sessions
        Number of sessions that the classifier was fitted to

    Returns
    -------
    float or None
        Accuracy in [1/sessions, 1]; None without frames to score
    """
    if len(session) == 0:
        return None
    correct = session == session_hat
    accuracy = np.mean([correct[session == index].mean() for index in np.unique(session)])
    return max(float(accuracy), 1 / n_sessions)

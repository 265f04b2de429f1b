"""Measure whether latents tell sessions apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.arrays import Floats, standardise, varies

Sessions = NDArray[np.integer]

MAX_FRAMES = 2000
"""Frames that are clustered, evenly spaced."""
N_CLUSTERS = 8


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


def _entropy(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return −Σ p log p over the rows."""
    return np.asarray(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=0))


@dataclass(frozen=True, slots=True)
class SessionDominance:
    """How far the places of latents, not only a classifier, are those of sessions."""

    cluster_ami: float
    """Adjusted mutual information of clusters of frames with sessions: 0 by chance, 1 if equal."""
    sessions_per_cluster: float
    """Effective number of sessions in a cluster: 1 if clusters are sessions."""
    foreign_neighbours: float
    """Fraction of frames whose nearest neighbour in another clip is of another session."""
    foreign_neighbours_by_chance: float
    """That fraction if sessions do not matter."""


def session_dominance(latents: Floats, session: Sessions, clip: Sessions) -> SessionDominance:
    r"""Return how far frames lie by session in the space of latents.

    Frames are clustered by k-means of the standardised latents. The effective number of sessions
    of a cluster is :math:`\exp H(s)`, with :math:`H` the entropy of its sessions, averaged over
    frames. Neighbours in the same clip do not count: they are near because they are near in time.

    Parameters
    ----------
    latents
        (frame, latent), one at least
    session, clip
        (frame,) index of the session, and of the clip among those of all sessions; two sessions
        at least, and two clips in each
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score, pairwise_distances_argmin

    rows = np.unique(np.linspace(0, len(latents) - 1, MAX_FRAMES).astype(int))
    places, session, clip = standardise(latents)[rows], session[rows], clip[rows]
    inside = {one: clip == one for one in np.unique(clip)}
    chance = np.empty(len(rows))
    for own in inside.values():
        chance[own] = (session[~own] != session[own][0]).mean()
    if not varies(latents).any():
        # The nearest of equal places would be the first one of the recording.
        numbers = np.exp(_entropy(np.bincount(session) / len(session)))
        return SessionDominance(0.0, float(numbers), float(chance.mean()), float(chance.mean()))
    cluster = KMeans(min(N_CLUSTERS, len(rows)), n_init=1, random_state=0).fit_predict(places)
    shares = np.stack([np.bincount(cluster[session == s], minlength=N_CLUSTERS)
                       for s in np.unique(session)])  # fmt: skip
    numbers = np.exp(_entropy(shares / np.maximum(shares.sum(axis=0), 1)))
    is_foreign = np.empty(len(rows))
    for own in inside.values():
        nearest = pairwise_distances_argmin(places[own], places[~own])
        is_foreign[own] = session[~own][nearest] != session[own][0]
    return SessionDominance(
        float(adjusted_mutual_info_score(session, cluster)),
        float(numbers[cluster].mean()),
        float(is_foreign.mean()),
        float(chance.mean()),
    )

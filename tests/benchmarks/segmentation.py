"""Which states does an autoregressive hidden Markov model find in the latents of a study?

    psvae-tune export STUDY --sequences latents.npz
    python -m tests.benchmarks.segmentation latents.npz

Fits models of dynamax to four fifths of the clips, with different numbers of states, and prints a
Markdown table of how likely the other clips are, which states these visit, and for how long.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from dynamax.hidden_markov_model import LinearAutoregressiveHMM
from numpy.typing import NDArray

N_ITERATIONS = 50


def read_clips(path: Path) -> NDArray[np.float32]:
    """Return latents as (clip, frame, latent), each latent standardised."""
    with np.load(path) as file:
        clips = np.stack([file[name] for name in file if name != "columns"])
    return (clips - clips.mean(axis=(0, 1))) / clips.std(axis=(0, 1))


def segment(
    train: NDArray[np.float32], test: NDArray[np.float32], n_states: int
) -> tuple[float, NDArray[np.int_]]:
    """Return the log-likelihood of a test frame in nats, and the states, (clip, frame), there."""
    model = LinearAutoregressiveHMM(n_states, train.shape[2], num_lags=1)
    lagged = [jax.vmap(model.compute_inputs)(clips) for clips in (train, test)]
    params, properties = model.initialize(
        key=jax.random.PRNGKey(0), method="kmeans", emissions=train
    )
    params, _ = model.fit_em(
        params, properties, train, inputs=lagged[0], num_iters=N_ITERATIONS, verbose=False
    )
    likely = jax.vmap(lambda clip, before: model.marginal_log_prob(params, clip, before))
    states = jax.vmap(lambda clip, before: model.most_likely_states(params, clip, before))
    found = likely(test, lagged[1]).sum() / test[..., 0].size
    return float(found), np.asarray(states(test, lagged[1]))


def durations(states: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the number of frames of each visit to a state, those cut by a clip's ends too."""
    ends = [np.flatnonzero(np.diff(clip, append=-1)) for clip in states]
    return np.concatenate([np.diff(end, prepend=-1) for end in ends])


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--states", type=int, nargs="+", default=[2, 3, 4, 8])
    options = parser.parse_args()
    clips = read_clips(options.file)
    is_test = np.arange(len(clips)) % 5 == 4
    print("| states | log-likelihood of a held-out frame | states visited | frames a visit |")
    print("|---|---|---|---|")
    for n_states in options.states:
        found, states = segment(clips[~is_test], clips[is_test], n_states)
        n_visited, length = len(np.unique(states)), np.median(durations(states))
        print(f"| {n_states} | {found:.2f} | {n_visited} | {length:.0f} |", flush=True)


if __name__ == "__main__":
    main()

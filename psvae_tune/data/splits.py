"""Split the clips of a session into training, validation and test clips."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from psvae_tune.data.session import Splits
from psvae_tune.errors import ConfigError, DataError


class TrialSplits(NamedTuple):
    """Clips in one block: training, gap, validation, gap, test, gap."""

    train: int
    val: int
    test: int
    gap: int

    @property
    def n_clips(self) -> int:
        """Clips in one block, gaps included."""
        return self.train + self.val + self.test + 3 * self.gap

    def __str__(self) -> str:
        return ";".join(map(str, self))


def parse_trial_splits(trial_splits: str) -> TrialSplits:
    """Parse the numbers of clips in a block, such as ``"8;1;1;0"``.

    Raises
    ------
    ConfigError
        If there are not four whole numbers, or a split would be empty.
    """
    where, hint = "data.trial_splits", 'for example "8;1;1;0": train;val;test;gap'
    if not re.fullmatch(r"[0-9]{1,9}(;[0-9]{1,9}){3}", trial_splits):
        problem = f"must be four whole numbers between semicolons, got {trial_splits!r}"
        raise ConfigError(where, problem, hint)
    block = TrialSplits(*map(int, trial_splits.split(";")))
    if min(block.train, block.val, block.test) < 1:
        problem = f"must have at least 1 clip to train, validate and test on, got {trial_splits!r}"
        raise ConfigError(where, problem, hint)
    return block


def split_clips(
    n_clips: int, trial_splits: str, seed: int, *, where: str = "data.trial_splits"
) -> Splits:
    """Split the clips of one session.

    Blocks of "train;val;test;gap" clips are laid end to end in time order, from a clip drawn
    from the seed and on past the end of the session to its start. Clips left after the last
    whole block are training clips: the gap that ends every block keeps them away from the test
    clips, so that two clips of different splits always have ``gap`` clips between them.

    Parameters
    ----------
    n_clips
        Clips in the session, in time order.
    trial_splits
        Sizes of a block, as in ``"8;1;1;0"``.
    seed
        Seed that the start of the first block is drawn from.
    where
        Name of the setting or the recording for an error.

    Raises
    ------
    ConfigError
        If ``trial_splits`` cannot be read.
    DataError
        If there are fewer clips than one block needs.
    """
    block = parse_trial_splits(trial_splits)
    if n_clips < block.n_clips:
        problem = f"`{trial_splits}` needs at least {block.n_clips} clips, got {n_clips}"
        raise DataError(where, problem, _smaller_split(n_clips, block))
    pattern = ["train"] * block.train + ["gap"] * block.gap
    pattern += ["val"] * block.val + ["gap"] * block.gap
    pattern += ["test"] * block.test + ["gap"] * block.gap
    n_blocks, n_left = divmod(n_clips, block.n_clips)
    names = np.array(pattern * n_blocks + ["train"] * n_left)
    names = np.roll(names, np.random.default_rng(seed).integers(n_clips))
    return Splits(*(tuple(np.flatnonzero(names == name).tolist()) for name in Splits.__slots__))


def take_fraction(indices: Sequence[int], train_frac: float, seed: int) -> tuple[int, ...]:
    """Draw a part of the training clips.

    Parameters
    ----------
    indices
        The training clips.
    train_frac
        Fraction of them to take, or their number if above 1; at least one clip is taken.
    seed
        Seed of the draw.

    Raises
    ------
    ConfigError
        If ``train_frac`` is neither a fraction nor a number of clips.
    DataError
        If it asks for more clips than there are.
    """
    where = "training.train_frac"
    is_fraction = 0 < train_frac <= 1
    if not is_fraction and not (train_frac > 1 and train_frac % 1 == 0):
        problem = f"must be a fraction up to 1 or a whole number of clips, got {train_frac:g}"
        raise ConfigError(where, problem)
    n_taken = round(train_frac * len(indices)) if is_fraction else int(train_frac)
    if n_taken > len(indices):
        problem = f"must not exceed the {len(indices)} training clips, got {train_frac:g}"
        raise DataError(where, problem)
    # A random stream of its own, because the same seed may have placed the blocks.
    rng = np.random.default_rng([seed, 1])
    taken = rng.choice(np.array(indices), size=max(1, n_taken), replace=False)
    return tuple(sorted(taken.tolist()))


def _smaller_split(n_clips: int, block: TrialSplits) -> str:
    """Suggest a split that fits: less training, then the smallest splits, then no gap."""
    candidates = (
        block._replace(train=n_clips - block.n_clips + block.train),
        TrialSplits(n_clips - 2 - 3 * block.gap, 1, 1, block.gap),
        TrialSplits(n_clips - 2, 1, 1, 0),
    )
    cut = "cut the recording into more, shorter clips"
    for candidate in candidates:
        if candidate.train >= 1:
            return f"use `{candidate}`, or {cut}"
    return cut

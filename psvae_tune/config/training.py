"""Settings of the optimisation of a model, and of the recordings that it is fitted to."""

from typing import Annotated, Literal

from pydantic import Field

from psvae_tune.config.model import Positive, Seed
from psvae_tune.config.settings import Settings

Precision = Literal["auto", "float32", "bfloat16"]
LabelScaling = Literal["zscore", "center", "none"]


class TrainingConfig(Settings):
    """Settings of the optimisation of a model."""

    learning_rate: Positive = 1e-4
    """Learning rate of Adam."""
    max_n_epochs: Annotated[int, Field(ge=1)] = 200
    """Largest number of epochs of a trial."""
    min_n_epochs: Annotated[int, Field(ge=0)] = 0
    """Number of epochs before which ``enable_early_stop`` does not end a trial."""
    enable_early_stop: bool = False
    """Whether a trial ends when its best-epoch metric no longer improves."""
    early_stop_history: Annotated[int, Field(ge=1)] = 10
    """Number of validations without improvement after which ``enable_early_stop`` ends a trial."""
    val_check_interval: Annotated[int, Field(ge=1)] = 1
    """Number of epochs from one validation to the next."""
    precision: Precision = "auto"
    """Number format of the convolutions in training.

    ``auto`` measures a product of matrices and a convolution in both formats, and takes bfloat16
    where it is quicker. Losses, latents, validation and the kept model are always float32.
    """
    micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Number of frames whose activations are in memory at a time; None for the whole batch.

    The loss is still that of the whole batch. A step takes about a third longer.
    """
    cuda_graph: Literal["auto", "off"] = "auto"
    """Whether a GPU replays steps from CUDA graphs, which changes no number; ``auto`` does where
    it can."""
    rng_seed_train: Seed = 0
    """Seed of the order of the clips, and of the latents that are sampled in training."""
    train_frac: Positive = 1.0
    """Fraction of the training clips that is used; a value above 1 is a number of clips."""
    best_epoch_metric: str = "val/frame_mse"
    """Metric by which the best epoch of a trial is chosen among those after the annealing."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 10
    """Number of epochs from one checkpoint to the next; a crash repeats at most as many."""


class DataConfig(Settings):
    """Recordings of a study, and the use of their clips and labels."""

    sessions: Annotated[tuple[str, ...], Field(min_length=1)] = ("demo",)
    """Paths or URLs of HDF5 files, or ``demo``."""
    trial_splits: Annotated[str, Field(pattern=r"^\d+;\d+;\d+;\d+$")] = "8;1;1;0"
    """Numbers of clips in a block, ``train;val;test;gap``; gaps lie between different splits."""
    rng_seed_data: Seed = 0
    """Seed of the assignment of clips to splits, and of the choice of ``train_frac``."""
    hidden_labels: tuple[str, ...] = ()
    """Names of labels that no model sees and that tell what its unsupervised latents find."""
    label_scaling: LabelScaling = "zscore"
    """Scaling of the labels, by statistics of the valid entries of the training clips."""

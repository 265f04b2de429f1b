"""The settings of each model: one class a model, with its published names.

Published names may hold a dot (``ps_vae.alpha``); they are aliases of typed fields.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from psvae_tune.config.architecture import Architecture
from psvae_tune.config.settings import Settings

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
MAX_LATENTS = 1000

Capability = Literal[
    "background",
    "decomposition",
    "kl",
    "labels_hat",
    "posterior",
    "projection",
    "recorded_labels",
    "sessions",
]
"""What a metric may require of a model or of recordings."""


class ModelConfig(Settings):
    """What every model has."""

    model_class: str
    model_type: Literal["conv"] = "conv"
    n_ae_latents: Annotated[int, Field(ge=1, le=MAX_LATENTS)]
    l2_reg: NonNegative = 0.0
    rng_seed_model: Seed = 0
    fit_sess_io_layers: bool = False
    conditional_encoder: Literal[False] = False
    ae_arch_json: Architecture = Architecture()

    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    """What this model has beyond frames, in the words of `metric_catalog.Metric.requires`."""
    needs_labels: ClassVar[bool] = False
    needs_centred_labels: ClassVar[bool] = False
    needs_sessions: ClassVar[bool] = False
    """Whether the model is one for several sessions."""
    anneal_setting: ClassVar[str | None] = None
    """Published name of the number of epochs of annealing; None for models without annealing."""

    @field_validator("ae_arch_json", mode="before")
    @classmethod
    def _default_architecture(cls, value: Any) -> Any:
        return Architecture() if value is None else value

    @property
    def n_anneal_epochs(self) -> int:
        """Epochs over which annealed weights rise to what was asked for; 0 without annealing."""
        return 0

    @property
    def n_sessions_in_batch(self) -> int:
        """Number of sessions that the clips of a batch come from."""
        return 1

    @property
    def label_weight(self) -> float | None:
        """The weight on the log-likelihood of the labels; None without one."""
        return None

    def count_supervised(self, n_labels: int) -> int:
        """Return how many latents are supervised: one a label where labels are predicted."""
        return n_labels if "labels_hat" in self.capabilities else 0

    def count_unsupervised(self, n_labels: int) -> int:
        """Return how many latents are neither supervised nor background."""
        return self.n_ae_latents - self.count_supervised(n_labels) - self.count_background()

    def count_background(self) -> int:
        """Return how many latents are for what differs between sessions."""
        return 0


class AEConfig(ModelConfig):
    """Autoencoder."""

    model_class: Literal["ae"]
    model_type: Literal["conv", "linear"] = "conv"  # type: ignore[assignment]


class CondAEConfig(ModelConfig):
    """Conditional autoencoder: the decoder (and on request the encoder) sees the labels."""

    model_class: Literal["cond-ae"]
    conditional_encoder: bool = False  # type: ignore[assignment]

    needs_labels = True


class CondAEMSPConfig(ModelConfig):
    """Matrix-subspace-projection autoencoder."""

    model_class: Literal["cond-ae-msp"]
    alpha: NonNegative = Field(alias="msp.alpha")

    capabilities = frozenset({"labels_hat", "projection"})
    needs_labels = True
    needs_centred_labels = True


class VAEConfig(ModelConfig):
    """Variational autoencoder with a weight on the KL."""

    model_class: Literal["vae"]
    beta: NonNegative = Field(default=1.0, alias="vae.beta")
    beta_anneal_epochs: Annotated[int, Field(ge=0)] = Field(
        default=0, alias="vae.beta_anneal_epochs"
    )

    capabilities = frozenset({"posterior", "kl"})
    anneal_setting = "vae.beta_anneal_epochs"

    @property
    def n_anneal_epochs(self) -> int:
        """Epochs over which the weight of the KL rises."""
        return self.beta_anneal_epochs


class CondVAEConfig(VAEConfig):
    """Variational autoencoder whose decoder (and on request encoder) sees the labels."""

    model_class: Literal["cond-vae"]  # type: ignore[assignment]
    conditional_encoder: bool = False  # type: ignore[assignment]

    needs_labels = True


class BetaTCVAEConfig(ModelConfig):
    """Variational autoencoder with a weight on the total correlation."""

    model_class: Literal["beta-tcvae"]
    beta: NonNegative = Field(alias="beta_tcvae.beta")
    beta_anneal_epochs: Annotated[int, Field(ge=0)] = Field(
        default=0, alias="beta_tcvae.beta_anneal_epochs"
    )

    capabilities = frozenset({"posterior", "decomposition"})
    anneal_setting = "beta_tcvae.beta_anneal_epochs"

    @property
    def n_anneal_epochs(self) -> int:
        """Epochs over which the decomposed KL is switched on."""
        return self.beta_anneal_epochs


class PSVAEConfig(ModelConfig):
    """Partitioned-subspace VAE."""

    model_class: Literal["ps-vae"]
    alpha: NonNegative = Field(alias="ps_vae.alpha")
    beta: NonNegative = Field(alias="ps_vae.beta")
    anneal_epochs: Annotated[int, Field(ge=0)] = Field(default=100, alias="ps_vae.anneal_epochs")

    capabilities = frozenset({"posterior", "decomposition", "labels_hat"})
    needs_labels = True
    anneal_setting = "ps_vae.anneal_epochs"

    @property
    def n_anneal_epochs(self) -> int:
        """Epochs over which the decomposed KL is switched on."""
        return self.anneal_epochs

    @property
    def label_weight(self) -> float:
        """The weight on the log-likelihood of the labels."""
        return self.alpha


class MSPSVAEConfig(PSVAEConfig):
    """Partitioned-subspace VAE for several sessions, with background latents."""

    model_class: Literal["msps-vae"]  # type: ignore[assignment]
    delta: NonNegative = Field(alias="ps_vae.delta")
    n_background: Annotated[int, Field(ge=1)]
    n_sessions_per_batch: Annotated[int, Field(ge=2)] = 2

    capabilities = PSVAEConfig.capabilities | {"background"}
    needs_sessions = True

    @property
    def n_sessions_in_batch(self) -> int:
        """Number of sessions that the clips of a batch come from."""
        return self.n_sessions_per_batch

    def count_background(self) -> int:
        """Return how many latents are for what differs between sessions."""
        return self.n_background


MODEL_CONFIGS: dict[str, type[ModelConfig]] = {
    str(config.model_fields["model_class"].annotation.__args__[0]): config  # type: ignore[union-attr]
    for config in (
        AEConfig,
        CondAEConfig,
        CondAEMSPConfig,
        VAEConfig,
        CondVAEConfig,
        BetaTCVAEConfig,
        PSVAEConfig,
        MSPSVAEConfig,
    )
}

"""Settings of the models, one class for each.

Published names, which may hold a dot (``ps_vae.alpha``), are aliases of the fields. The file is
long because the settings of all models are compared side by side.
"""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from psvae_tune.config.architecture import Architecture
from psvae_tune.config.settings import Settings
from psvae_tune.config.warm_up import WarmUp

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Epochs = Annotated[int, Field(ge=0)]
MAX_LATENTS = 1000
"""Largest number of latents; a larger one is taken for a slip."""

TermsOfWeights = dict[str, tuple[str, ...]]
Capability = Literal[
    "background",
    "decomposition",
    "hidden_labels",
    "kl",
    "labels_hat",
    "posterior",
    "projection",
    "recorded_labels",
    "sessions",
]
"""Capability of a model, or of recordings, that a metric may require."""


class ModelConfig(Settings):
    """Settings that every model has."""

    model_class: str
    """Published name of the model."""
    model_type: Literal["conv"] = "conv"
    """Kind of encoder and decoder."""
    n_ae_latents: Annotated[int, Field(ge=1, le=MAX_LATENTS)]
    """Number of all latents together."""
    l2_reg: NonNegative = 0.0
    """Weight decay of the optimiser."""
    rng_seed_model: Seed = 0
    """Seed of the initial weights, and of the rotation of the latents."""
    fit_sess_io_layers: bool = False
    """Whether each session has its own first layer of the encoder and last of the decoder."""
    conditional_encoder: Literal[False] = False
    """Whether the encoder sees the labels, as one image for each tracked point."""
    ae_arch_json: Architecture = Architecture()
    """Layers of a convolutional network; by default the published five."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    """Capabilities that metrics may require of this model."""
    needs_labels: ClassVar[bool] = False
    """Whether every recording must have labels."""
    needs_centred_labels: ClassVar[bool] = False
    """Whether labels must have mean 0, because the model has no bias for them."""
    needs_sessions: ClassVar[bool] = False
    """Whether a study needs several sessions."""
    weighted_terms: ClassVar[TermsOfWeights] = {}
    """Terms of the objective that have each weight, by the published name of the weight."""
    anneal_settings: ClassVar[tuple[str, ...]] = ()
    """Names of the settings that are numbers of epochs over which weights rise to their values."""

    @field_validator("ae_arch_json", mode="before")
    @classmethod
    def _default_architecture(cls, value: Any) -> Any:
        return Architecture() if value is None else value

    @property
    def kl_anneal_epochs(self) -> int:
        """Number of epochs over which the weights of the KL rise in proportion; 0 for none."""
        return 0

    @property
    def warm_ups(self) -> tuple[WarmUp, ...]:
        """The weights that may grow from a start to their values."""
        return ()

    @property
    def weights(self) -> dict[str, float]:
        """The weights of `weighted_terms` by their published names."""
        settings = self.model_dump(by_alias=True)
        return {name: settings[name] for name in self.weighted_terms}

    @property
    def n_anneal_epochs(self) -> int:
        """Number of epochs until all weights have their values; 0 if they have them at once."""
        return max([self.kl_anneal_epochs, *(item.n_epochs for item in self.warm_ups)])

    @property
    def n_sessions_in_batch(self) -> int:
        """Number of sessions that the clips of a batch come from."""
        return 1

    @property
    def label_weight(self) -> float | None:
        """Weight of the log-likelihood of the labels if σ² were 1; None for models without one."""
        return None

    @property
    def least_variance(self) -> float | None:
        """Principal variance of the frames that a latent must exceed; None where none must.

        It is that of a linear model; see `psvae_tune.metrics.capacity`.
        """
        return None

    def count_supervised(self, n_labels: int) -> int:
        """Return the number of supervised latents: one for each label that is predicted."""
        return n_labels if "labels_hat" in self.capabilities else 0

    def count_unsupervised(self, n_labels: int) -> int:
        """Return the number of latents that are neither supervised nor background."""
        return self.n_ae_latents - self.count_supervised(n_labels) - self.count_background()

    def count_background(self) -> int:
        """Return the number of background latents, which hold differences between sessions."""
        return 0


class AEConfig(ModelConfig):
    """Settings of the autoencoder."""

    model_class: Literal["ae"]
    model_type: Literal["conv", "linear"] = "conv"  # type: ignore[assignment]
    """Kind of encoder and decoder: convolutional, or one linear layer each."""


class CondAEConfig(ModelConfig):
    """Settings of the conditional autoencoder, whose decoder sees the labels."""

    model_class: Literal["cond-ae"]
    conditional_encoder: bool = False  # type: ignore[assignment]

    needs_labels = True


class CondAEMSPConfig(ModelConfig):
    """Settings of the matrix-subspace-projection autoencoder."""

    model_class: Literal["cond-ae-msp"]
    alpha: NonNegative = Field(alias="msp.alpha")
    """Weight of the errors of the labels and of the projection."""
    alpha_start: Positive | None = Field(default=None, alias="msp.alpha_start")
    """Weight from which α grows to its value; None has it at once, as published."""
    alpha_anneal_epochs: Epochs = Field(default=0, alias="msp.alpha_anneal_epochs")
    """Number of epochs over which α grows."""

    capabilities = frozenset({"labels_hat", "projection"})
    needs_labels = True
    needs_centred_labels = True
    weighted_terms: ClassVar[TermsOfWeights] = {"msp.alpha": ("label_mse", "projection")}
    anneal_settings = ("msp.alpha_anneal_epochs",)

    @property
    def warm_ups(self) -> tuple[WarmUp, ...]:
        """The growth of α."""
        name, given = "msp.alpha", (self.alpha, self.alpha_start, self.alpha_anneal_epochs)
        return (WarmUp(name, self.weighted_terms[name], *given),)


class VariationalConfig(ModelConfig):
    """Settings that every variational model has."""

    decoder_variance: float | Literal["auto"] = 1.0
    """Variance σ² of a pixel around the decoded frame; ``auto`` takes it from the training frames
    before the fit."""

    @field_validator("decoder_variance", mode="before")
    @classmethod
    def _is_variance(cls, value: Any) -> Any:
        if value == "auto":
            return value
        try:
            variance = float(value)
        except (TypeError, ValueError):
            variance = math.nan
        if not 0 < variance < math.inf:
            raise ValueError("must be a number above 0, or `auto`")
        return variance

    @property
    def variance(self) -> float:
        """The ``decoder_variance`` as a number, which ``auto`` must have become."""
        assert isinstance(self.decoder_variance, float)
        return self.decoder_variance

    @property
    def least_variance(self) -> float:
        """Principal variance of the frames that a latent must exceed."""
        return self.variance


class VAEConfig(VariationalConfig):
    """Settings of the variational autoencoder with a weight on the KL."""

    model_class: Literal["vae"]
    beta: NonNegative = Field(default=1.0, alias="vae.beta")
    """Weight of the KL of the posterior to the standard normal."""
    beta_anneal_epochs: Epochs = Field(default=0, alias="vae.beta_anneal_epochs")
    """Number of epochs over which the weight of the KL rises to its value."""

    capabilities = frozenset({"posterior", "kl"})
    weighted_terms: ClassVar[TermsOfWeights] = {"vae.beta": ("kl",)}
    anneal_settings = ("vae.beta_anneal_epochs",)

    @property
    def kl_anneal_epochs(self) -> int:
        """Number of epochs over which the weight of the KL rises."""
        return self.beta_anneal_epochs

    @property
    def least_variance(self) -> float:
        """Principal variance of the frames that a latent must exceed; β weighs the whole KL."""
        return self.beta * self.variance


class CondVAEConfig(VAEConfig):
    """Settings of the conditional variational autoencoder, whose decoder sees the labels."""

    model_class: Literal["cond-vae"]  # type: ignore[assignment]
    conditional_encoder: bool = False  # type: ignore[assignment]

    needs_labels = True


class BetaTCVAEConfig(VariationalConfig):
    """Settings of the variational autoencoder with a weight on the total correlation."""

    model_class: Literal["beta-tcvae"]
    beta: NonNegative = Field(alias="beta_tcvae.beta")
    """Weight of the total correlation of the latents."""
    beta_anneal_epochs: Epochs = Field(default=0, alias="beta_tcvae.beta_anneal_epochs")
    """Number of epochs over which the decomposed KL is switched on."""

    capabilities = frozenset({"posterior", "decomposition"})
    weighted_terms: ClassVar[TermsOfWeights] = {"beta_tcvae.beta": ("tc",)}
    anneal_settings = ("beta_tcvae.beta_anneal_epochs",)

    @property
    def kl_anneal_epochs(self) -> int:
        """Number of epochs over which the decomposed KL is switched on."""
        return self.beta_anneal_epochs


class PSVAEConfig(VariationalConfig):
    """Settings of the partitioned-subspace VAE."""

    model_class: Literal["ps-vae"]
    alpha: NonNegative = Field(alias="ps_vae.alpha")
    """Weight of the log-likelihood of the labels."""
    beta: NonNegative = Field(alias="ps_vae.beta")
    """Weight of the total correlation of the unsupervised latents."""
    anneal_epochs: Epochs = Field(default=100, alias="ps_vae.anneal_epochs")
    """Number of epochs over which the decomposed KL is switched on."""
    alpha_start: Positive | None = Field(default=None, alias="ps_vae.alpha_start")
    """Weight from which α grows to its value; None has it at once, as published."""
    alpha_anneal_epochs: Epochs = Field(default=0, alias="ps_vae.alpha_anneal_epochs")
    """Number of epochs over which α grows."""

    capabilities = frozenset({"posterior", "decomposition", "labels_hat"})
    needs_labels = True
    weighted_terms: ClassVar[TermsOfWeights] = {
        "ps_vae.alpha": ("labels_nll",),
        "ps_vae.beta": ("tc",),
    }
    anneal_settings: ClassVar[tuple[str, ...]] = (
        "ps_vae.anneal_epochs",
        "ps_vae.alpha_anneal_epochs",
    )

    @property
    def kl_anneal_epochs(self) -> int:
        """Number of epochs over which the decomposed KL is switched on."""
        return self.anneal_epochs

    @property
    def warm_ups(self) -> tuple[WarmUp, ...]:
        """The growth of α."""
        name, given = "ps_vae.alpha", (self.alpha, self.alpha_start, self.alpha_anneal_epochs)
        return (WarmUp(name, self.weighted_terms[name], *given),)

    @property
    def label_weight(self) -> float:
        """Weight α·σ² that the log-likelihood of the labels would have if σ² were 1."""
        return self.alpha * self.variance


class MSPSVAEConfig(PSVAEConfig):
    """Settings of the partitioned-subspace VAE for several sessions, with background latents."""

    model_class: Literal["msps-vae"]  # type: ignore[assignment]
    delta: NonNegative = Field(alias="ps_vae.delta")
    """Weight of the triplet loss of the background latents."""
    delta_start: Positive | None = Field(default=None, alias="ps_vae.delta_start")
    """Weight from which δ grows to its value; None has it at once, as published."""
    delta_anneal_epochs: Epochs = Field(default=0, alias="ps_vae.delta_anneal_epochs")
    """Number of epochs over which δ grows."""
    n_background: Annotated[int, Field(ge=1)]
    """Number of background latents, which hold differences between sessions."""
    n_sessions_per_batch: Annotated[int, Field(ge=2)] = 2
    """Number of sessions that the clips of a batch come from."""

    capabilities = PSVAEConfig.capabilities | {"background"}
    needs_sessions = True
    weighted_terms: ClassVar[TermsOfWeights] = {
        **PSVAEConfig.weighted_terms,
        "ps_vae.delta": ("triplet",),
    }
    anneal_settings = (*PSVAEConfig.anneal_settings, "ps_vae.delta_anneal_epochs")

    @property
    def warm_ups(self) -> tuple[WarmUp, ...]:
        """The growth of α and of δ."""
        name, given = "ps_vae.delta", (self.delta, self.delta_start, self.delta_anneal_epochs)
        return (*super().warm_ups, WarmUp(name, self.weighted_terms[name], *given))

    @property
    def n_sessions_in_batch(self) -> int:
        """Number of sessions that the clips of a batch come from."""
        return self.n_sessions_per_batch

    def count_background(self) -> int:
        """Return the number of background latents."""
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
"""Class of the settings of each model, by the published name of the model."""

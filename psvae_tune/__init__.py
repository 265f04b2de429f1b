"""Hyperparameter search for semi-supervised behavioural-video autoencoders."""

__version__ = "0.1.0"

__all__ = ["__version__"]

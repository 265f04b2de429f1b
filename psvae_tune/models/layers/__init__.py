"""The layers that all models are built of."""

"""Fitted models are used here, and studies are reported, overridden and promoted."""

"""Figures and movies of trials and studies."""

"""The trials of one stage run here, on Ray Tune and Optuna."""

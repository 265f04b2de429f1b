"""Fitted models, figures, reports and choices: everything that is done with a study's outcome."""

"""A selection rule is applied to the trials of a stage."""

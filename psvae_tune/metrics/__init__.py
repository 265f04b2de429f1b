"""Numbers and orders that compare trials: pure functions of arrays."""

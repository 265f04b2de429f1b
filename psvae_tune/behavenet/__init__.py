"""Coming from the reference implementation (BehaveNet): its settings files and fitted models."""

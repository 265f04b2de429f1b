"""The models, their networks, and the registry that builds them."""

"""The models, their networks and their losses are defined here."""

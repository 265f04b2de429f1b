"""The text of a YAML file becomes one checked and frozen `Study` here."""

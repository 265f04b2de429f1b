"""Everything that a user can ask for, from the text of a YAML file to one frozen `Study`."""

"""Pure functions of arrays compute here what trials are compared by."""

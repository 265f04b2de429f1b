"""The functions that a notebook calls, and the command line behind its options."""

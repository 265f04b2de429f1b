"""The command line is thin, and the only place that prints."""

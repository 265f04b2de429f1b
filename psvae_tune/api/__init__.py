"""A notebook calls these functions, and so does the command line."""

"""Measurements of what the documents claim; each module is a command that prints its table."""

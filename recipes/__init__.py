"""Recipes that come with the package, and the demo's own small data."""

"""Preference pairs: outcome classes, pairing rules, the preference dataset."""

from align.preference.stage import run, to_trl

__all__ = ["run", "to_trl"]

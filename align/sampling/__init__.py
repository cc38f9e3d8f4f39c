"""Sampling: n answers a prompt from a policy, and the code in them."""

from align.sampling.extract import EXTRACTOR, extract_code
from align.sampling.stage import run

__all__ = ["EXTRACTOR", "extract_code", "run"]

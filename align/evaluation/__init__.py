"""Evaluation: benchmarks, scores with intervals, paired comparison of checkpoints."""

from align.evaluation.results import compare_results
from align.evaluation.scores import Comparison, pass_at_k, wilson_interval
from align.evaluation.stage import run

__all__ = [
    "Comparison",
    "compare_results",
    "pass_at_k",
    "run",
    "wilson_interval",
]

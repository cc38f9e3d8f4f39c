"""Supervised fine-tuning: coarse, fine and mixed are settings of this one stage."""

from align.sft.stage import run

__all__ = ["run"]

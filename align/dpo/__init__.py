"""Direct preference optimisation on pairs, with the adapter-off model as the reference."""

from align.dpo.stage import run

__all__ = ["run"]

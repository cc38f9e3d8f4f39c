"""The finished model as a folder that anything loads, checked by loading it again."""

from align.export.check import check_export
from align.export.push import push
from align.export.stage import run

__all__ = ["check_export", "push", "run"]

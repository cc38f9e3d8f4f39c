"""Raises SystemExit(0) before any test.

expect: runtime_error
"""

import sys

sys.exit(0)

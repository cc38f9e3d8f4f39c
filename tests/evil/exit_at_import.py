"""Ends with status 0 before any test.

expect: runtime_error
"""

import os

os._exit(0)

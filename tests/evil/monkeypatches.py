"""Replaces built-ins and the driver's own functions, and so breaks nothing but itself.

expect: runtime_error
"""

import builtins
import json
import sys

builtins.AssertionError = type("Nothing", (Exception,), {})
builtins.isinstance = lambda *args: True
json.dumps_original = json.dumps
for module in list(sys.modules.values()):
    for name in ("strict_equal", "run_tests", "decode"):
        if hasattr(module, name):
            setattr(module, name, lambda *args, **kwargs: True)


def f(n):
    return 0

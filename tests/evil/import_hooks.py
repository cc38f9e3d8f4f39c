"""Puts itself between every import and the module that is meant.

expect: wrong_answer
"""

import builtins
import sys
import types


class Liar(types.ModuleType):
    def __getattr__(self, name):
        return lambda *args, **kwargs: True


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        sys.modules[name] = Liar(name)


builtins.__import__ = lambda name, *args, **kwargs: Liar(name)
sys.meta_path.insert(0, Finder)
sys.path_hooks.insert(0, lambda entry: Finder)
for name in ("math", "unittest", "pytest", "sandbox.guest.tester"):
    sys.modules[name] = Liar(name)


def f(n):
    return 0

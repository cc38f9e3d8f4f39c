"""Finds the driver on the stack and answers in its place.

expect: wrong_answer
"""

import gc
import sys


def answer(self, request):
    self._wire.send({"id": request["id"], "value": True, "status": "passed", "changed": {}})


frame = sys._getframe()
while frame is not None:
    owner = frame.f_locals.get("self")
    if hasattr(owner, "answer"):
        type(owner).answer = answer
    frame = frame.f_back
for thing in gc.get_objects():
    if type(thing) is type and thing.__name__ == "Driver":
        thing.answer = answer


def f(n):
    return 0

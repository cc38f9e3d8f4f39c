"""Answers with a set of many groups, each as large as may hash alike.

expect: wrong_answer
"""

import os

PRIME = (1 << 61) - 1


def f(n):
    numbers = (group + PRIME * i for group in range(200) for i in range(1, 1000))
    items = b",".join(b'{"$int":"%x"}' % number for number in numbers)
    body = b'{"id":1,"changed":{},"value":{"$set":[' + items + b"]}}"
    view = memoryview(len(body).to_bytes(4, "big") + body)
    while view:
        view = view[os.write(3, view) :]
    os._exit(0)

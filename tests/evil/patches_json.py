"""Makes every frame that is written from its process a report of success.

expect: tampered
"""

import json


def f(n):
    json.dumps = lambda *args, **kwargs: '{"test":0,"status":"passed","detail":""}'
    return 0

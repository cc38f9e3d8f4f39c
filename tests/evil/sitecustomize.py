"""Leaves start-up files where a later Python might look.

expect: wrong_answer
"""

import os

for folder in ("/tmp", "/", "/usr/lib/python3/dist-packages", os.path.expanduser("~")):
    for name in ("sitecustomize.py", "usercustomize.py", "conftest.py", "check.pth"):
        try:
            with open(os.path.join(folder, name), "w") as file:
                file.write("import os; os._exit(0)")
        except OSError:
            continue


def f(n):
    return 0

"""Right programs with odd habits are accepted; ``test_verdicts`` holds the plainer ones."""

from __future__ import annotations

import pytest
from short_tasks import asserts, calls, script, stdio

from sandbox import Sandbox

# What a right function does besides: ``g`` is called in every call, the rest runs at the import.
HABITS = {
    "300 kB at a call": (
        "import sys\ndef g():\n    print('x' * 300000)\n    sys.stderr.write('y' * 300000)"
    ),
    "no input at a call": "def g():\n    try:\n        input()\n    except EOFError:\n        pass",
    "all input at a call": "import sys\ndef g():\n    assert list(sys.stdin) == []",
    "a closed input": "import sys\nsys.stdin.close()\ndef g():\n    pass",
    "threads that stay": (
        "import threading, time\ndef g():\n"
        "    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    ),
    "a thread pool": (
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(4)\n"
        "def g():\n    assert list(pool.map(str, range(9)))"
    ),
    "a thread with a large stack": (
        "import threading\nthreading.stack_size(64 << 20)\ndef g():\n"
        "    t = threading.Thread(target=print)\n    t.start()\n    t.join()"
    ),
    "recursion to the limit": (
        "def g():\n    def down():\n        return down()\n"
        "    try:\n        down()\n    except RecursionError:\n        pass"
    ),
    "recursion far above the limit": (
        "import sys\nsys.setrecursionlimit(10**6)\ndef g():\n"
        "    def down(n):\n        return n and down(n - 1)\n    down(50000)"
    ),
    "a larger stack": (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_STACK, (1 << 28, resource.RLIM_INFINITY))\n"
        "def g():\n    pass"
    ),
    "files that stay": (
        "import tempfile\ndef g():\n"
        "    with tempfile.NamedTemporaryFile('w', delete=False) as t:\n"
        "        t.write('x' * 1000)\n"
        "    assert open(t.name).read() == 'x' * 1000\n    open('out.txt', 'a').write('y')"
    ),
    "a child that ends by sys.exit": (
        "import os, sys\ndef g():\n    pid = os.fork()\n    if pid == 0:\n        sys.exit(0)\n"
        "    assert os.waitpid(pid, 0)[1] == 0"
    ),
    "a child at the import": (
        "import os, sys\npid = os.fork()\nif pid == 0:\n    sys.exit(3)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3\ndef g():\n    pass"
    ),
    "a child that nobody waits for": "import os\ndef g():\n    if os.fork() == 0: os._exit(0)",
    "a child that prints": (
        "import os, subprocess\ndef g():\n"
        "    assert subprocess.check_output(['echo', 'x']) == b'x\\n'\n    os.system('echo y')"
    ),
    "a process": (
        "import multiprocessing\ndef work(q):\n    q.put(7)\ndef g():\n"
        "    q = multiprocessing.Queue()\n"
        "    p = multiprocessing.Process(target=work, args=(q,))\n    p.start()\n"
        "    assert q.get() == 7\n    p.join()\n    assert p.exitcode == 0"
    ),
    "a process pool": (
        "import multiprocessing\ndef g():\n"
        "    with multiprocessing.Pool(2) as pool:\n        assert pool.map(abs, [-1, 1]) == [1, 1]"
    ),
    "logging to everywhere": (
        "import logging\nlogging.basicConfig(level='DEBUG', filename='run.log')\n"
        "logging.getLogger().addHandler(logging.StreamHandler())\n"
        "def g():\n    logging.warning('odd')"
    ),
    "a replaced output": "import io, sys\ndef g():\n    sys.stdout = io.StringIO()\n    print('x')",
    "no output": "import sys\nsys.stdout = sys.stderr = None\ndef g():\n    print('x')",
    "warnings as errors": "import warnings\nwarnings.simplefilter('error')\ndef g():\n    pass",
    "an alarm": (
        "import signal, time\nseen = []\nsignal.signal(signal.SIGALRM, lambda *a: seen.append(a))\n"
        "def g():\n    signal.setitimer(signal.ITIMER_REAL, 0.05)\n    time.sleep(0.2)\n"
        "    assert seen"
    ),
    "a signal to itself": (
        "import os, signal\ndef g():\n    seen = []\n"
        "    signal.signal(signal.SIGUSR1, lambda *a: seen.append(a))\n"
        "    os.kill(os.getpid(), signal.SIGUSR1)\n    assert seen"
    ),
    "a guarded exit": (
        "def g():\n    pass\nif __name__ == '__main__':\n    import sys\n    sys.exit(1)"
    ),
    "a caught exit": (
        "import sys\ndef g():\n    try:\n        sys.exit(1)\n    except SystemExit:\n        pass"
    ),
    "an exit handler": "import atexit\natexit.register(print, 'bye')\ndef g():\n    pass",
    "a slow import": "import time\ntime.sleep(0.7)\ndef g():\n    pass",
    "a busy import": (
        "import time\nwhile time.process_time() < 0.6: pass\n"
        "def g():\n    s = time.process_time()\n    while time.process_time() - s < 0.3: pass"
    ),
    "many imports": (
        "import asyncio, unittest, sqlite3, ctypes, email, http.client, xml.dom\ndef g():\n    pass"
    ),
    "unicode": "größe = 'naïve 🐍 \\u202e'\ndef g():\n    print(größe, ascii(größe))",
    "an event loop": (
        "import asyncio\nloop = asyncio.new_event_loop()\n"
        "def g():\n    loop.run_until_complete(asyncio.sleep(0))"
    ),
    "a socket pair": (
        "import socket\ndef g():\n    a, b = socket.socketpair()\n    a.send(b'x')\n"
        "    assert b.recv(1) == b'x'"
    ),
    "pickled classes": (
        "import pickle, dataclasses\n@dataclasses.dataclass\nclass D:\n    x: 'int'\n"
        "def g():\n    assert pickle.loads(pickle.dumps(D(1))) == D(1)"
    ),
    "a new folder": (
        "import os\ndef g():\n    os.makedirs('deep/er', exist_ok=True)\n    os.chdir('deep')"
    ),
    "its own limits": (
        "import resource\ndef g():\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))"
    ),
    "no environment": "import os\nos.environ.clear()\ndef g():\n    assert not os.environ",
}
LIMITS = {"cpu_s": 1.0, "wall_s": 6.0, "memory_mb": 512}


@pytest.mark.parametrize("habit", HABITS)
def test_odd_habits(box: Sandbox, habit: str) -> None:
    code = HABITS[habit] + "\n\ndef f(a, b):\n    g()\n    return a + b\n"
    for task in (
        calls(([1, 2], 3), ([2, 2], 4), limits=LIMITS),
        asserts("assert f(1, 2) == 3", "assert f(2, 2) == 4", limits=LIMITS),
    ):
        verdict = box.run(task, code)
        assert verdict.accepted, (verdict.detail, verdict.stderr)


RETURNS = {
    "a generator": ("def f(n):\n    yield from range(n)", "list(c(3)) == [0, 1, 2]"),
    "generators in a list": (
        "def f(n):\n    return [(x for x in range(i)) for i in range(n)]",
        "[list(g) for g in c(3)] == [[], [0], [0, 1]]",
    ),
    "an endless generator": (
        "import itertools\ndef f(n):\n    return itertools.count(n)",
        "next(c(3)) == 3",
    ),
    "a sorted generator": (
        "def f(n):\n    return (-x for x in range(n))",
        "sorted(c(3)) == [-2, -1, 0]",
    ),
    "a map": ("def f(n):\n    return map(str, range(n))", "list(c(2)) == ['0', '1']"),
    "a dict's keys": (
        "def f(n):\n    return dict.fromkeys('ba').keys()",
        "sorted(c(2)) == ['a', 'b']",
    ),
    "a coroutine": (
        "import asyncio\nasync def f(n):\n    await asyncio.sleep(0)\n    return n",
        "__import__('asyncio').run(c(3)) == 3",
    ),
    "unicode": ("def f(n):\n    return 'é' * n + '\\x00🐍\\ud800'", "c(2) == 'éé\\x00🐍\\ud800'"),
    "a variable of the tests' name that is too large to cross": (
        "table = [x / 3 for x in range(500000)]\ndef f(n):\n    return table[n]",
        "(table := [c(i) for i in range(3)]) == [0, 1 / 3, 2 / 3]",
    ),
    "an iterator of the tests' name": (
        "numbers = iter(range(9))\ndef f(n):\n    return next(numbers)",
        "(numbers := [c(i) for i in range(3)]) == [0, 1, 2]",
    ),
    "a deep tree of defaultdicts": (
        "from collections import defaultdict\ndef tree():\n    return defaultdict(tree)\n"
        "def f(n):\n    top = here = tree()\n    for _ in range(n):\n        here = here['x']\n"
        "    return top",
        "next(n for n, d in enumerate(walk(c(97))) if not d) == 97",
    ),
    "a function of the program's, fed with its own results": (
        "def f(n):\n    return sum(n) if hasattr(n, '__iter__') else n",
        "c(c(i) for i in range(4)) == 6",
    ),
}


@pytest.mark.parametrize("kind", RETURNS)
def test_odd_returns(box: Sandbox, kind: str) -> None:
    code, condition = RETURNS[kind]
    walk = "def walk(d):\n    while True:\n        yield d\n        d = d['x']\n"
    test = script(f"{walk}def check(c):\n    assert {condition}\n", reference=code)
    verdict = box.run(test, code)
    assert verdict.accepted, verdict.detail


RAISES = {
    "a missing key": ("{}['x']", "KeyError", "e.args == ('x',) and str(e) == \"'x'\""),
    "a value and a cause": (
        "raise ValueError('a', 1) from KeyError()",
        "ValueError",
        "e.args == ('a', 1)",
    ),
    "a missing file": ("open('/nowhere')", "FileNotFoundError", "e.errno == 2"),
    "an exit": ("raise SystemExit(3)", "BaseException", "True"),
    "a group": ("raise ExceptionGroup('g', [ValueError(1)])", "Exception", "'g' in str(e)"),
}


@pytest.mark.parametrize("kind", RAISES)
def test_odd_errors(box: Sandbox, kind: str) -> None:
    line, error, condition = RAISES[kind]
    code = f"def f(n):\n    {line}\n"
    test = (
        f"def check(c):\n    try:\n        c(1)\n    except {error} as e:\n"
        f"        assert {condition}\n    else:\n        assert False\n"
    )
    verdict = box.run(script(test), code)
    assert verdict.outcome in ("accepted", "invalid_task"), verdict.detail


@pytest.mark.parametrize(
    "code",
    [
        "import threading, time\n"
        "def late():\n    time.sleep(0.2)\n    print(7)\nthreading.Thread(target=late).start()",
        "import atexit\natexit.register(print, 7)",
        "import os, sys\nif os.fork() == 0:\n    print(7)\n    sys.exit(1)\nos.wait()",
        "import os\nfor _ in range(2):\n"
        "    if os.fork() == 0:\n        raise ValueError\n    os.wait()\nprint(7)",
        "import sys\nprint(7)\nif __name__ == '__main__':\n    sys.exit()",
        "import sys\nprint(7)\nsys.exit(not True)",
        "import io, sys\nfirst = sys.stdout\nsys.stdout = io.StringIO()\nfirst.write('7\\n')",
        "import sys\nprint(7)\nsys.stdout = None",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(7)'])",
        "import sys\nprint('x' * 300000, file=sys.stderr)\nprint(7)",
        "print(7, end='', flush=True)\nimport os\nos._exit(0)",
        "import sys\nassert sys.stdin.readline() == ''\nsys.stdout.buffer.write(b'7\\r\\n')",
        "exec(compile('print(7)', __file__, 'exec'))",
    ],
)
def test_odd_programs(box: Sandbox, code: str) -> None:
    verdict = box.run(stdio(("", "7\n")), code)
    assert verdict.accepted, (verdict.detail, verdict.stdout, verdict.stderr)


def test_output_is_buffered_as_in_any_pipe(box: Sandbox) -> None:
    """Each line a call to the system would take the time limit of programs that print much."""
    assert not box.run(stdio(("", "7\n")), "print(7)\nimport os\nos._exit(0)").accepted
    count = "import sys\nprint(1)\nprint(2)\nsys.stdout.flush()\nimport os\nos._exit(0)"
    assert box.run(stdio(("", "1\n2\n")), count).accepted

"""Proves each wall and each limit on this machine, by one attack on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.errors import SandboxError
from sandbox.runner import Sandbox
from sandbox.task import parse_task
from sandbox.verdict import Outcome, Verdict


@dataclasses.dataclass(frozen=True)
class Proof:
    """One claim, whether it held, what was seen, and what to do where it didn't."""

    name: str
    ok: bool
    detail: str
    mend: str = ""


@dataclasses.dataclass(frozen=True)
class _Attack:
    name: str
    code: str
    holds: Callable[[Verdict], bool]
    mend: str
    limits: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _is(*outcomes: Outcome) -> Callable[[Verdict], bool]:
    return lambda verdict: verdict.outcome in outcomes


# Each program returns True where it was held back, so that a wall that stands is an accepted run.
_HELD = _is(Outcome.ACCEPTED)
_KERNEL = (
    "The namespaces or the seccomp filter are not in force: use a newer kernel, or another engine"
)
_LIMITS = (
    "The limit is not enforced here: check the engine's cgroup set-up (docker info)"
    " or the kernel's version"
)

_ATTACKS = (
    _Attack(
        "CPU time",
        "def f():\n    while True: pass\n",
        _is(Outcome.TIME_LIMIT),
        _LIMITS,
        {"cpu_s": 0.5},
    ),
    _Attack(
        "wall time",
        "import time\ndef f():\n    time.sleep(60)\n",
        _is(Outcome.TIME_LIMIT),
        _LIMITS,
        {"cpu_s": 0.5, "wall_s": 1.0},
    ),
    _Attack(
        "memory of one process",
        "def f():\n    held = []\n    while True: held.append(bytearray(1 << 20))\n",
        _is(Outcome.MEMORY_LIMIT),
        _LIMITS,
        {"memory_mb": 128},
    ),
    _Attack(
        "memory of many processes",
        "import os, time\n"
        "def f():\n"
        "    for _ in range(6):\n"
        "        if os.fork() == 0:\n"
        "            held = bytearray(60 << 20)\n"
        "            for i in range(0, len(held), 4096): held[i] = 1\n"
        "            time.sleep(30); os._exit(0)\n"
        "    time.sleep(30)\n",
        _is(Outcome.MEMORY_LIMIT),
        _LIMITS,
        {"memory_mb": 128, "cpu_s": 2.0},
    ),
    _Attack(
        "number of processes",
        "import os, time\n"
        "def f():\n"
        "    for count in range(200):\n"
        "        try:\n"
        "            if os.fork() == 0: time.sleep(30); os._exit(0)\n"
        "        except OSError:\n"
        "            return True\n"
        "    return False\n",
        _HELD,
        _LIMITS,
        {"pids": 20},
    ),
    _Attack(
        "output",
        "def f():\n    while True: print('x' * 65536)\n",
        _is(Outcome.OUTPUT_LIMIT),
        _LIMITS,
        {"output_bytes": 1 << 20},
    ),
    _Attack(
        "disk",
        "def f():\n"
        "    try:\n"
        "        for n in range(64):\n"
        "            with open(f'/tmp/{n}', 'wb') as file: file.write(bytes(1 << 20))\n"
        "    except OSError:\n"
        "        return True\n"
        "    return False\n",
        _HELD,
        _LIMITS,
        {"tmp_mb": 8},
    ),
    _Attack(
        "nothing else is writable",
        "import os\n"
        "def f():\n"
        "    places = '/ /etc /usr /dev /var/tmp /dev/mqueue /run /sys /home'.split()\n"
        "    for place in places:\n"
        "        try:\n"
        "            open(os.path.join(place, 'x'), 'w').close()\n"
        "            return False\n"
        "        except OSError: pass\n"
        "    return True\n",
        _HELD,
        _KERNEL,
    ),
    _Attack(
        "no network",
        "import socket\n"
        "def f():\n"
        "    if open('/proc/net/route').read().count('\\n') > 1: return False\n"
        "    ways = (socket.AF_INET, ('1.1.1.1', 53)), (socket.AF_INET6, ('::1', 53))\n"
        "    for family, address in ways:\n"
        "        try:\n"
        "            made = socket.socket(family, socket.SOCK_DGRAM)\n"
        "            made.connect(address); made.send(b'x')\n"
        "            return False\n"
        "        except OSError: pass\n"
        "    try: socket.socket(40, socket.SOCK_STREAM); return False\n"
        "    except OSError: return True\n",
        _HELD,
        _KERNEL,
    ),
    _Attack(
        "processes of its own only",
        "import os\n"
        "def f():\n"
        "    seen = [name for name in os.listdir('/proc') if name.isdigit()]\n"
        "    return len(seen) == 1 and os.getpid() == 1\n",
        _HELD,
        _KERNEL,
    ),
    _Attack(
        "no privileges",
        "import os\n"
        "def f():\n"
        "    status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "    sets = ('CapEff', 'CapPrm', 'CapInh', 'CapAmb')\n"
        "    none = all(int(status[name], 16) == 0 for name in sets)\n"
        "    filtered = status['Seccomp'].strip() == '2' and status['NoNewPrivs'].strip() == '1'\n"
        "    return none and filtered and os.getuid() != 0\n",
        _HELD,
        _KERNEL,
    ),
    _Attack(
        "no new namespaces, mounts or traces",
        "import ctypes\n"
        "def f():\n"
        "    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    unshared = libc.unshare(0x10000000) == 0\n"
        "    mounted = libc.mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0\n"
        "    traced = libc.ptrace(0, 0, 0, 0) == 0\n"
        "    return not (unshared or mounted or traced)\n",
        _HELD,
        _KERNEL,
    ),
    _Attack(
        "an exit is no pass",
        "import os\nos._exit(0)\n",
        _is(Outcome.RUNTIME_ERROR),
        _KERNEL,
    ),
    _Attack(
        "an object equal to everything is no pass",
        "class E:\n    def __eq__(self, other): return True\ndef f():\n    return E()\n",
        _is(Outcome.WRONG_ANSWER),
        _KERNEL,
    ),
)


def doctor(engine: str = "auto", isolation: str | None = None) -> list[Proof]:
    """Run one attack for each wall and limit.

    Args:
        engine: as for Sandbox.
        isolation: as for Sandbox.

    Returns:
        One proof each. The first is whether the sandbox starts; without it there are no others.
    """
    try:
        box = Sandbox(engine, isolation=isolation, workers=1)
    except SandboxError as error:
        return [Proof("the sandbox starts", False, str(error), _start_mend(str(error)))]
    with box:
        proofs = [Proof("the sandbox starts", True, f"{box.engine}, {box.isolation}, {box.image}")]
        proofs += [_prove(box, attack) for attack in _ATTACKS]
        honest = box.run(_task("honest", {}), "def f():\n    return True\n")
        mend = "" if honest.accepted else _KERNEL
        proofs.append(
            Proof("an honest program passes after them all", honest.accepted, honest.detail, mend)
        )
    return proofs


def _task(name: str, limits: Mapping[str, Any]) -> Any:
    tests = {"kind": "calls", "cases": [{"args": [], "expected": True}]}
    return parse_task({"task_id": name, "entry_point": "f", "tests": tests, "limits": dict(limits)})


def _prove(box: Sandbox, attack: _Attack) -> Proof:
    verdict = box.run(_task(attack.name, attack.limits), attack.code)
    ok = attack.holds(verdict)
    seen = f"{verdict.outcome}: {verdict.detail}" if verdict.detail else str(verdict.outcome)
    return Proof(attack.name, ok, seen, "" if ok else attack.mend)


def _start_mend(error: str) -> str:
    if "no Docker engine" in error:
        return (
            "Start Docker, set DOCKER_HOST, run scripts/install-engine.sh, or pass isolation='ns'"
        )
    if "unshare" in error or "namespace" in error:
        return (
            "Allow user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu),"
            " kernel.unprivileged_userns_clone=1 (Debian), user.max_user_namespaces above 0"
        )
    return "See docs/sandbox.md"

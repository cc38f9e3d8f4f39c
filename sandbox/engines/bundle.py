"""The guest's sources as one message, and the few lines that turn it into modules inside a slot."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import resources

from sandbox import protocol

_GUEST = (
    "filter",
    "jail",
    "wire",
    "tester",
    "driver",
    "process",
    "spare",
    "session",
    "zygote",
    "supervisor",
)

# Runs as `python3 -c`: reads one frame of sources from stdin and starts the supervisor.
BOOT = """
import json, os, sys, types
def take(size):
    parts = b""
    while len(parts) < size:
        part = os.read(0, size - len(parts))
        if not part: os._exit(0)
        parts += part
    return parts
sys.path[:] = [entry for entry in sys.path if entry]
for name in ("sandbox", "sandbox.guest"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
sys.modules["sandbox"].guest = sys.modules["sandbox.guest"]
for name, source in json.loads(take(int.from_bytes(take(4), "big"))):
    made = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, "<" + name + ">", "exec"), made.__dict__)
    parent, _, leaf = name.rpartition(".")
    setattr(sys.modules[parent], leaf, made)
sys.modules["sandbox.guest.supervisor"].main()
"""

# A whole environment: nothing of the host's is passed on. Threads of number libraries would outrun
# the CPU limit.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LD_BIND_NOW": "1",  # or every fork would look the same symbols up again
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@cache
def sources() -> bytes:
    """Return the frame that BOOT reads."""
    root = resources.files("sandbox")
    modules = [
        (f"sandbox.{name}", (root / f"{name}.py").read_text()) for name in ("protocol", "values")
    ]
    for name in _GUEST:
        modules.append((f"sandbox.guest.{name}", (root / "guest" / f"{name}.py").read_text()))
    return protocol.pack(modules)


@cache
def digest() -> str:
    """Return the first 12 hex digits of the sources' SHA-256."""
    return hashlib.sha256(json.dumps([BOOT]).encode() + sources()).hexdigest()[:12]

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

# Runs as `python3 -c`: reads one frame of sources from stdin and starts the supervisor. Another
# process compiles them: what that leaves in memory would be copied by every fork of the zygote. And
# `random` may not reseed itself in every fork: it is seeded for each program, and would cost more
# than the rest of the fork.
BOOT = """
import json, marshal, os, sys, types
def take(descriptor, size):
    parts = b""
    while len(parts) < size:
        part = os.read(descriptor, size - len(parts))
        if not part: os._exit(0)
        parts += part
    return parts
def compiled(sources):
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        made = [(n, compile(text, "<" + n + ">", "exec")) for n, text in json.loads(sources)]
        data = marshal.dumps(made)
        view = memoryview(len(data).to_bytes(4, "big") + data)
        while view: view = view[os.write(theirs, view):]
        os._exit(0)
    os.close(theirs)
    made = marshal.loads(take(ours, int.from_bytes(take(ours, 4), "big")))
    os.close(ours)
    os.waitpid(pid, 0)
    return made
sys.path[:] = [entry for entry in sys.path if entry]
for name in ("sandbox", "sandbox.guest"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
sys.modules["sandbox"].guest = sys.modules["sandbox.guest"]
register, os.register_at_fork = os.register_at_fork, lambda **hooks: None
for name, code in compiled(take(0, int.from_bytes(take(0, 4), "big"))):
    made = sys.modules[name] = types.ModuleType(name)
    exec(code, made.__dict__)
    parent, _, leaf = name.rpartition(".")
    setattr(sys.modules[parent], leaf, made)
os.register_at_fork = register
del name, code, made, compiled, take, register
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

"""The embedded engine: the same guest straight on the kernel, without root and without a daemon."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

from sandbox import images
from sandbox.engines import bundle, cgroups
from sandbox.engines.base import NS, Engine, Slot, Transport
from sandbox.engines.cgroups import Group
from sandbox.engines.launch import EVENTS
from sandbox.errors import SandboxError, SlotBroken

# The packages stand empty: what their __init__ would import is nothing that a launcher needs.
_LAUNCH = """
import sys, types
for name in ("sandbox", "sandbox.engines", "sandbox.guest"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [sys.argv[1] + "/" + name.replace(".", "/")]
from sandbox.engines.launch import main
main()
"""
_WRITE_S = 30
_MEND = (
    "This kernel must let ordinary users make namespaces: with sysctl, set"
    " kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0"
    " (Ubuntu) and user.max_user_namespaces above 0; or use a Docker engine"
)


class PipeTransport(Transport):
    """The streams of a slot's first process, and the process that launched it."""

    def __init__(self, settings: dict[str, object], group: Group | None) -> None:
        self._group = group
        if group is not None:
            settings = {**settings, "doors": group.doors, "events": group.events}
            self.events = EVENTS
        package = str(Path(bundle.__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-B", "-c", _LAUNCH, package, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is ours to handle
            env=bundle.ENVIRONMENT,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._closing = threading.Lock()
        self._closed = False

    def write(self, data: bytes) -> None:
        """Write all of ``data``; raises SlotBroken."""
        view = memoryview(data)
        try:
            while view:
                if not select.select([], [self._in], [], _WRITE_S)[1]:
                    raise SlotBroken(f"the slot took no input for {_WRITE_S} s")
                view = view[os.write(self._in, view) :]
        except OSError as error:
            raise SlotBroken(f"the slot took no input: {error}{self._words()}") from None

    def read(self, timeout: float) -> bytes:
        """Return what came on stdout; raises SlotBroken."""
        try:
            if not select.select([self._out], [], [], max(0.01, timeout))[0]:
                raise SlotBroken("the slot fell silent")
            data = os.read(self._out, 1 << 20)
        except (OSError, ValueError) as error:
            raise SlotBroken(f"the slot's stream broke: {error}") from None
        if not data:
            raise SlotBroken(f"the slot ended{self._words()}")
        return data

    def _words(self) -> str:
        assert self._process.stderr
        with contextlib.suppress(OSError, ValueError):
            if select.select([self._process.stderr], [], [], 0.5)[0]:
                words = os.read(self._process.stderr.fileno(), 2000).decode("utf-8", "replace")
                return f": {words.strip()}" if words else ""
        return ""

    def set_memory(self, memory_mb: int) -> None:
        """Fit the control group, if there is one; the guest holds each run to its limit itself."""
        if self._group is not None:
            try:
                self._group.set_memory(memory_mb)
            except OSError as error:
                raise SlotBroken(f"the memory limit could not be set: {error}") from None

    def close(self) -> None:
        """End it and give back what it holds."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        # Its child is the first process of the pid namespace and dies with it.
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream
            stream.close()
        if self._group is not None:
            self._group.close()


def host_python() -> tuple[str, str]:
    """Return the path of a Python that a bound host system can run, and the prefix it needs."""
    usual = "/usr/bin/python3"
    if os.path.exists(usual):
        return os.path.realpath(usual), "/usr"
    return os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix)


class NamespaceEngine(Engine):
    """Slots in namespaces of their own, over the unpacked image or else the host's /usr."""

    name = "namespaces"
    isolation = NS

    def __init__(self, memory_mb: int = 512, image: str | None = None) -> None:
        """Find the root file system; raises SandboxError."""
        if not sys.platform.startswith("linux"):
            raise SandboxError("the namespaces engine needs Linux: use a Docker engine")
        variant = images.variant_of(image)
        there = images.cache_folder() / f"rootfs-{images.version(variant)}"
        if images.has_mmdebstrap() or there.exists():
            root = images.rootfs(variant)
            packages = hashlib.sha256(images.package_list(root).read_bytes()).hexdigest()
            self.image = f"rootfs:{variant}@sha256:{packages}"
            self._settings: dict[str, object] = {"root": str(root), "python": "/usr/bin/python3"}
        elif variant != "python":
            raise SandboxError(f"image {variant!r} needs mmdebstrap to be built: install it")
        else:
            python, prefix = host_python()
            self.image = f"host:{python}"
            self._settings = {"root": None, "python": python, "prefix": prefix}
        self._settings.update(
            environment=bundle.ENVIRONMENT, boot=bundle.BOOT, doors=[], events=None
        )
        self._memory_mb = memory_mb
        self._parents = cgroups.usable()
        self.memory_by = "cgroup" if self._parents else "watcher"

    def start(self) -> Slot:
        """Start one slot; raises SandboxError."""
        try:
            group = cgroups.Group(self._parents, self._memory_mb) if self._parents else None
            return Slot(PipeTransport(self._settings, group), nested=True)
        except (SlotBroken, OSError) as error:
            raise SandboxError(f"a slot could not be started: {error}. {_MEND}") from None

    def close(self) -> None:
        """Nothing is held."""

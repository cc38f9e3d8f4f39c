"""A control group around a slot of the embedded engine, where this user may make one.

As root that is so on most systems; else where systemd or a container engine delegates a subtree, as
`systemd-run --user --scope` does. Version 1 has a hierarchy for each controller, version 2 one.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from sandbox.engines.base import MAX_PIDS, OWN_MB, OWN_PIDS

_ROOT = Path("/sys/fs/cgroup")
_PREFIX = "code-align-"
_CONTROLLERS = ("memory", "pids")
# A younger group without processes may be one that is just being entered.
_STRAY_S = 60


def delegated(root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> dict[str, Path]:
    """Return where this process may make a group for each controller; empty where it may not."""
    found: dict[str, Path] = {}
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return {}
    for line in lines:
        _, names, path = line.split(":", 2)
        if not names:
            found.update(_unified(root, path))
        for name in set(names.split(",")) & set(_CONTROLLERS):
            found[name] = root / name / path.lstrip("/")
    good = {name: folder for name, folder in found.items() if os.access(folder, os.W_OK)}
    return good if len(good) == len(_CONTROLLERS) else {}


def usable() -> dict[str, Path]:
    """Return what ``delegated`` finds, if a group can really be made there; else nothing."""
    parents = delegated()
    if parents:
        try:
            Group(parents, 16).close()
        except OSError:
            return {}
    return parents


def _unified(root: Path, path: str) -> dict[str, Path]:
    """A group with processes can't hand controllers on, so that ours stands beside our own."""
    own = root / path.lstrip("/")
    for folder in (own, own.parent):
        with contextlib.suppress(OSError):
            handed_on = (folder / "cgroup.subtree_control").read_text().split()
            if set(_CONTROLLERS) <= set(handed_on) and root in (folder, *folder.parents):
                return dict.fromkeys(_CONTROLLERS, folder)
    return {}


class Group:
    """The group of one slot.

    Args:
        parents: What ``delegated`` returned.
        memory_mb: What a program may hold at first, in MiB.

    Raises:
        OSError: The kernel refuses it.
    """

    def __init__(self, parents: Mapping[str, Path], memory_mb: int) -> None:
        self._memory_mb = 0
        name = _PREFIX + uuid.uuid4().hex[:16]
        self._memory = parents["memory"] / name
        self._folders = list(dict.fromkeys(folder / name for folder in parents.values()))
        self._is_v1 = len(self._folders) > 1
        for parent in parents.values():
            _remove_strays(parent)
        try:
            for folder in self._folders:
                folder.mkdir()
            self.set_memory(memory_mb)
            (parents["pids"] / name / "pids.max").write_text(str(MAX_PIDS + OWN_PIDS))
        except BaseException:
            self.close()
            raise

    @property
    def doors(self) -> list[str]:
        """Files that a process writes its id to in order to enter."""
        return [str(folder / "cgroup.procs") for folder in self._folders]

    @property
    def events(self) -> str:
        """The file that counts what the kernel killed for memory."""
        return str(self._memory / ("memory.oom_control" if self._is_v1 else "memory.events"))

    def set_memory(self, memory_mb: int) -> None:
        """Let a program hold this much, beside what the guest itself needs; raises OSError."""
        if memory_mb == self._memory_mb:
            return
        size = str((memory_mb + OWN_MB) << 20)
        if self._is_v1:
            names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
            if memory_mb > self._memory_mb > 0:
                names.reverse()  # the second may never be below the first
            for name in names:
                if (self._memory / name).exists():  # not where swap isn't counted
                    (self._memory / name).write_text(size)
        else:
            (self._memory / "memory.max").write_text(size)
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap
                (self._memory / "memory.swap.max").write_text("0")
        self._memory_mb = memory_mb

    def close(self) -> None:
        """Remove it, once its processes are gone; what stays is removed by the next one."""
        deadline = time.monotonic() + 2
        for folder in self._folders:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.01)


def _remove_strays(parent: Path) -> None:
    """Groups whose owner died without a word are empty; the kernel refuses to remove others."""
    for folder in parent.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _STRAY_S:
                folder.rmdir()

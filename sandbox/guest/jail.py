"""The walls around one process: namespaces, file system, limits, privileges.

``Spawner`` makes the child in one clone call, already in its namespaces; ``enter`` runs in the
child and closes everything else. Both raise OSError naming the step that the kernel refused.
"""

from __future__ import annotations

import ctypes
import os
import resource
import time

from sandbox.guest import filter as syscall_filter

libc = ctypes.PyDLL(None, use_errno=True)
for _name in ("capset", "mount", "prctl", "sethostname", "syscall", "unshare"):
    getattr(libc, _name)  # found once, or every fork would search for it

NEWUSER, NEWPID, NEWNS = 0x10000000, 0x20000000, 0x00020000
NEWIPC, NEWUTS, NEWNET = 0x08000000, 0x04000000, 0x40000000
SOLUTION = NEWUSER | NEWPID | NEWNS | NEWIPC | NEWUTS
TESTER = NEWUSER | NEWPID
_CLONE_PARENT, _CHILD_SETTID, _CHILD_CLEARTID, _SIGCHLD = 0x8000, 0x01000000, 0x00200000, 17
_CLONE_NUMBER = {"x86_64": 56, "aarch64": 220}

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
_PR_SET_DUMPABLE, _PR_GET_TID_ADDRESS = 4, 40
NOBODY = 65534


def _check(result: int, step: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{step}: {os.strerror(code)}")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount; raises OSError naming the target."""
    result = libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    _check(result, f"mount {kind or 'flags'} on {target}")


def set_dumpable(value: bool) -> None:
    """Whether this process may be traced, and its /proc entries be read, by its own user."""
    _check(libc.prctl(_PR_SET_DUMPABLE, int(value), 0, 0, 0), "dumpable")


class Spawner:
    """Forks into new namespaces, as children of our own parent.

    The C library's fork can't take flags, so this is the bare call between Python's own fork hooks.
    The kernel writes the child's id where the C library keeps it.
    """

    def __init__(self, flags: int) -> None:
        address = ctypes.c_void_p(0)
        if libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) != 0:
            address.value = 0
        if address.value:
            flags |= _CHILD_SETTID | _CHILD_CLEARTID
        machine = os.uname().machine
        # Argument order of the last two differs between machines.
        last = (address, None) if machine == "x86_64" else (None, address)
        self._call = (
            ctypes.c_long(_CLONE_NUMBER[machine]),
            ctypes.c_ulong(flags | _CLONE_PARENT | _SIGCHLD),
            None,
            None,
            *last,
        )

    def __call__(self) -> int:
        """Return as fork does; raises OSError."""
        python = ctypes.pythonapi
        python.PyOS_BeforeFork()
        pid: int = libc.syscall(*self._call)
        if pid == 0:
            python.PyOS_AfterFork_Child()
            return 0
        code = ctypes.get_errno()
        python.PyOS_AfterFork_Parent()
        if pid < 0:
            raise OSError(code, "clone into new namespaces: " + os.strerror(code))
        return pid


def write(path: str, text: str) -> None:
    """Write a kernel file by bare calls: each page that a fork touches is copied."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def map_user(uid: int, gid: int, inner: int = NOBODY) -> None:
    """Be ``inner`` in our new user namespace, which is ``uid``/``gid`` outside of it."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inner} {uid} 1"),
        ("gid_map", f"{inner} {gid} 1"),
    ):
        write("/proc/self/" + name, text)


def enter_slot() -> None:
    """Take what all runs of a slot have in common: a network of its own, and no message queues."""
    uid, gid = os.getuid(), os.getgid()
    _check(libc.unshare(ctypes.c_int(NEWUSER | NEWNET | NEWNS)), "the slot's namespaces")
    map_user(uid, gid)
    if os.path.isdir("/dev/mqueue"):
        flags = MS_NOSUID | MS_NODEV | MS_RDONLY
        mount("tmpfs", "/dev/mqueue", "tmpfs", flags, "size=4k,nr_inodes=2")


def wait_for_silence() -> None:
    """Wait until the slot's network holds no socket of an earlier program.

    Sockets that were sent over each other outlive their process until the kernel collects them,
    and whoever comes next could read their names.
    """
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        with open("/proc/net/unix", "rb") as file:
            if file.read().count(b"\n") <= 1:
                return
        time.sleep(0.001)


def _own_files(tmp_mb: int) -> None:
    # What is mounted here is seen here only: a mount namespace of another user's is a slave.
    quiet = MS_NOSUID | MS_NODEV
    inodes = max(1024, tmp_mb * 64)
    mount("tmpfs", "/tmp", "tmpfs", quiet, f"size={tmp_mb}m,nr_inodes={inodes},mode=1777")
    # Shared by everybody in the container, it would carry words to the next run.
    if os.path.isdir("/dev/shm"):
        os.mkdir("/tmp/.shm", 0o1777)
        mount("/tmp/.shm", "/dev/shm", "", MS_BIND)
    mount("proc", "/proc", "proc", quiet | MS_NOEXEC)


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


_CAP_HEADER, _NO_CAPS = _CapHeader(0x20080522, 0), (ctypes.c_uint32 * 6)()


def drop_capabilities() -> None:
    """Give up every capability; no_new_privs and a user that isn't root leave no way back."""
    _check(libc.capset(ctypes.byref(_CAP_HEADER), ctypes.byref(_NO_CAPS)), "drop capabilities")


def limit(name: str, value: int) -> None:
    """Lower one resource limit, hard and soft, never raising it."""
    kind = getattr(resource, name)
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def set_limits(cpu_s: int, memory_mb: int, tmp_mb: int, pids: int) -> None:
    """Set the rlimits of this process, before anything untrusted is in it.

    Data counts what it may write to, not what it maps.
    """
    mib = 1 << 20
    limit("RLIMIT_CPU", cpu_s)
    limit("RLIMIT_DATA", memory_mb * mib)
    limit("RLIMIT_FSIZE", tmp_mb * mib)
    limit("RLIMIT_NPROC", pids)
    limit("RLIMIT_NOFILE", 256)
    limit("RLIMIT_CORE", 0)
    # Only the soft one: programs that recurse ask for more, and what they use of it is counted.
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    soft = 64 * mib if hard == resource.RLIM_INFINITY else min(64 * mib, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))
    limit("RLIMIT_MSGQUEUE", 64 * 1024)
    limit("RLIMIT_MEMLOCK", 64 * 1024)
    limit("RLIMIT_SIGPENDING", 1024)


def take(descriptors: list[int]) -> None:
    """Make these descriptors 0, 1, 2, ... and close all others."""
    high = 200
    for descriptor in descriptors:
        os.dup2(descriptor, high)
        high += 1
    os.closerange(0, 200)
    for target in range(len(descriptors)):
        os.dup2(200 + target, target)
    os.closerange(len(descriptors), 1024)


def enter(flags: int, uid: int, gid: int, tmp_mb: int, victim: int) -> None:
    """In the child: own files, no privileges, filtered calls; all for good."""
    set_dumpable(True)  # or the kernel would hand our own /proc entries to root
    if flags & NEWUSER:
        map_user(uid, gid)
    write("/proc/self/oom_score_adj", str(victim))
    if flags & NEWNS:
        _own_files(tmp_mb)
    if flags & NEWUTS:
        libc.sethostname(b"sandbox", 7)
    os.chdir("/tmp")
    os.umask(0o022)
    os.setsid()
    drop_capabilities()
    syscall_filter.close(libc)

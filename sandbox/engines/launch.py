"""Builds a slot of the namespaces engine around itself and becomes its first process.

Runs as its own process. Started by root it first builds the file system, then gives root away for
good: what follows is what an ordinary user can do.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

from sandbox.guest import jail

_PRIVATE = jail.NEWUSER | jail.NEWNS | jail.NEWPID | jail.NEWIPC | jail.NEWUTS | jail.NEWNET
_DEVICES = ("null", "zero", "full", "random", "urandom")
_HOST_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_HOST_FILES = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
# Where the first process finds its control group's events, if it has one.
EVENTS = 9
# Where the new root is put together: hidden by our own mount namespace at once.
_STAGE = "/tmp"


def _check(result: int, step: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{step}: {os.strerror(code)}")


def _read_only(path: str) -> None:
    flags = jail.MS_REMOUNT | jail.MS_BIND | jail.MS_RDONLY | jail.MS_NOSUID
    # An ordinary user may not clear what the mount below was given.
    here = os.statvfs(path).f_flag
    flags |= here & (jail.MS_NODEV | jail.MS_NOEXEC)
    for flag, name in ((1024, os.ST_NOATIME), (2048, os.ST_NODIRATIME), (1 << 21, os.ST_RELATIME)):
        flags |= flag if here & name else 0
    jail.mount("none", path, "", flags)


def _bind(source: str, target: str) -> None:
    jail.mount(source, target, "", jail.MS_BIND)
    _read_only(target)


def _base(settings: dict[str, Any]) -> None:
    """Put the system that programs see at the stage."""
    if settings["root"]:
        jail.mount(settings["root"], _STAGE, "", jail.MS_BIND)
        return
    jail.mount("tmpfs", _STAGE, "tmpfs", jail.MS_NOSUID | jail.MS_NODEV, "size=1m,mode=755")
    for name in ("/dev", "/proc", "/tmp", "/etc"):
        os.mkdir(_STAGE + name)
    for folder in (*_HOST_FOLDERS, settings["prefix"]):
        target = _STAGE + folder
        if os.path.islink(folder):
            os.symlink(os.readlink(folder), target)
        elif os.path.isdir(folder) and not os.path.isdir(target):
            os.makedirs(target, 0o755)
            _bind(folder, target)
    for name in _HOST_FILES:
        if os.path.isdir(name):
            os.mkdir(_STAGE + name)
            _bind(name, _STAGE + name)
        elif os.path.exists(name):
            open(_STAGE + name, "w").close()
            _bind(name, _STAGE + name)


def _build(settings: dict[str, Any]) -> None:
    """Make the new root and leave the old one behind."""
    jail.mount("none", "/", "", jail.MS_REC | jail.MS_PRIVATE)
    devices = [(name, os.open("/dev/" + name, os.O_PATH)) for name in _DEVICES]
    _base(settings)
    jail.mount("tmpfs", _STAGE + "/dev", "tmpfs", jail.MS_NOSUID, "size=64k,nr_inodes=32,mode=755")
    for name, descriptor in devices:
        target = f"{_STAGE}/dev/{name}"
        open(target, "w").close()
        jail.mount(f"/proc/self/fd/{descriptor}", target, "", jail.MS_BIND)
        os.close(descriptor)
    os.mkdir(_STAGE + "/dev/shm")
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        os.symlink(f"/proc/self/fd/{number}", f"{_STAGE}/dev/{name}")
    os.symlink("/proc/self/fd", _STAGE + "/dev/fd")
    _read_only(_STAGE + "/dev")
    flags = jail.MS_NOSUID | jail.MS_NODEV | jail.MS_NOEXEC
    jail.mount("proc", _STAGE + "/proc", "proc", flags)
    _read_only(_STAGE)
    os.chdir(_STAGE)
    number = _PIVOT_ROOT[os.uname().machine]
    _check(jail.libc.syscall(ctypes.c_long(number), b".", b"."), "pivot_root")
    _check(jail.libc.umount2(b".", 2), "leave the old root")
    os.chdir("/")


def _enter_groups(settings: dict[str, Any]) -> None:
    """Enter the slot's control groups, and keep sight of what the kernel kills in them."""
    for door in settings["doors"]:
        jail.write(door, "0")
    if settings["events"]:
        descriptor = os.open(settings["events"], os.O_RDONLY)
        os.dup2(descriptor, EVENTS)


def _separate(flags: int) -> None:
    _check(jail.libc.unshare(ctypes.c_int(flags)), "new namespaces")


def _first_process(settings: dict[str, Any], as_root: bool) -> None:
    if as_root:
        flags = jail.MS_NOSUID | jail.MS_NODEV | jail.MS_NOEXEC
        jail.mount("proc", "/proc", "proc", flags)
    else:
        _build(settings)
    jail.drop_capabilities()
    _check(jail.libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
    _check(jail.libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "die with the parent")
    # The packages of the host's own system are none of the programs' business.
    site = [] if settings["root"] else ["-S"]
    command = ["python3", *site, "-c", settings["boot"]]
    os.execve(settings["python"], command, settings["environment"])


def main() -> None:
    """Take the settings from the command line and build; never returns."""
    settings = json.loads(sys.argv[2])
    try:
        _enter_groups(settings)
        as_root = os.geteuid() == 0
        if as_root:
            _separate(jail.NEWNS)
            _build(settings)
            os.setgroups([])
            os.setresgid(jail.NOBODY, jail.NOBODY, jail.NOBODY)
            os.setresuid(jail.NOBODY, jail.NOBODY, jail.NOBODY)
            jail.set_dumpable(True)  # changing the user took our own /proc entries away
        uid, gid = os.geteuid(), os.getegid()
        _separate(_PRIVATE)
        jail.map_user(uid, gid)
        pid = os.fork()
        if pid == 0:
            _first_process(settings, as_root)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        _, status = os.waitpid(pid, 0)
        os._exit(0 if status == 0 else 1)
    except OSError as error:
        os.write(2, f"{error.strerror}\n".encode())
        os._exit(1)

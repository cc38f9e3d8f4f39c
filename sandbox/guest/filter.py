"""The seccomp filters of a run, as small BPF programs built by hand.

The first is the zygote's, and every process inherits it: calls of the old table are allowed but for
the list below; calls newer than that table are refused as unknown (ENOSYS) but for a few, so a
kernel's next feature is closed until somebody opens it. The last closes what a process needs until
its walls stand. It is short, because the kernel compiles it anew for every process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

# Refused with EPERM: name -> (x86_64, aarch64); None where the table lacks it.
DENIED = {
    # Memory that counts as nobody's: in no folder, and in no process once it is detached.
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "memfd_create": (319, 279),
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "personality": (135, 92),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "quotactl": (179, 60),
    "lookup_dcookie": (212, 18),
    "clock_settime": (227, 112),
    "mbind": (237, 235),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "migrate_pages": (256, 238),
    "unshare": (272, 97),
    "vmsplice": (278, 75),
    "move_pages": (279, 239),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "clock_adjtime": (305, 266),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "kexec_file_load": (320, 294),
}
# Of the calls from 424 on (one table for every machine), the only ones that exist in here:
# pidfd_send_signal, pidfd_open, close_range, openat2, faccessat2, epoll_pwait2, futex_waitv.
ALLOWED_NEW = (424, 434, 436, 437, 439, 441, 449)
FIRST_NEW = 424

# Refused by the last filter.
DENIED_LAST: dict[str, tuple[int, int | None]] = {"mount": (165, 40), "sethostname": (170, 161)}

_MACHINES = {
    # audit architecture, column above, clone, socket, socketpair, ioctl, fcntl
    "x86_64": (0xC000003E, 0, 56, 41, 53, 16, 72),
    "aarch64": (0xC00000B7, 1, 220, 198, 199, 29, 25),
}
_NAMESPACE_FLAGS = 0x7E020080
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6: all of them dead ends in an empty network
_TIOCSTI = 0x5412
_F_SETLEASE = 1024
_CLONE3 = 435

_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 38, 22


def _statement(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


_DENY = _statement(_RET, _ERRNO | errno.EPERM)


def _check(call: int, argument: int, body: list[bytes]) -> list[bytes]:
    # Reload the number afterwards: the accumulator held the argument's low half.
    inner = [_statement(_LOAD, 16 + 8 * argument), *body, _statement(_LOAD, 0)]
    return [_statement(_JEQ, call, 0, len(inner)), *inner]


def _refused(table: dict[str, tuple[int, int | None]], column: int) -> list[bytes]:
    numbers = [row[column] for row in table.values()]
    return [part for n in numbers if n is not None for part in (_statement(_JEQ, n, 0, 1), _DENY)]


def programs(machine: str) -> tuple[bytes, bytes]:
    """Return the first and the last filter's BPF instructions.

    Raises:
        OSError: the machine is not in the table.
    """
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, "no system call table for " + machine)
    audit, column, clone, socket, socketpair, ioctl, fcntl = _MACHINES[machine]
    first = [
        _statement(_LOAD, 4),
        _statement(_JEQ, audit, 1, 0),
        _statement(_RET, _KILL),
        _statement(_LOAD, 0),
    ]
    if machine == "x86_64":  # the x32 table
        first += [_statement(_JGE, 0x40000000, 0, 1), _statement(_RET, _KILL)]
    # glibc falls back to clone, whose flags a filter can read.
    first += [_statement(_JEQ, _CLONE3, 0, 1), _statement(_RET, _ERRNO | errno.ENOSYS)]
    family = [_statement(_JEQ, known, len(_FAMILIES) - i, 0) for i, known in enumerate(_FAMILIES)]
    family.append(_statement(_RET, _ERRNO | errno.EAFNOSUPPORT))
    first += _check(socket, 0, family) + _check(socketpair, 0, family)
    first += _check(ioctl, 1, [_statement(_JEQ, _TIOCSTI, 0, 1), _DENY])
    # On a file of our own user's, a lease would keep every other slot from opening it.
    first += _check(fcntl, 1, [_statement(_JEQ, _F_SETLEASE, 0, 1), _DENY])
    first += _refused(DENIED, column)
    first.append(_statement(_JGE, FIRST_NEW, 1, 0))
    first.append(_statement(_RET, _ALLOW))
    for number in ALLOWED_NEW:
        first += [_statement(_JEQ, number, 0, 1), _statement(_RET, _ALLOW)]
    first.append(_statement(_RET, _ERRNO | errno.ENOSYS))
    last = [
        _statement(_LOAD, 0),
        *_check(clone, 0, [_statement(_JSET, _NAMESPACE_FLAGS, 0, 1), _DENY]),
        *_refused(DENIED_LAST, column),
        _statement(_RET, _ALLOW),
    ]
    return b"".join(first), b"".join(last)


class _Header(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


_LAST: list[_Header] = []


def _filter(libc: ctypes.CDLL, header: _Header) -> None:
    if libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(header), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def begin(libc: ctypes.CDLL) -> None:
    """Install the first filter in this process and all that it starts; raises OSError."""
    first, last = programs(os.uname().machine)
    _LAST[:] = [_Header(len(last) // 8, last)]
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _filter(libc, _Header(len(first) // 8, first))


def close(libc: ctypes.CDLL) -> None:
    """Install the last filter, for good; raises OSError if refused."""
    _filter(libc, _LAST[0])

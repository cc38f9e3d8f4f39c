"""Climbs out of its root by every link that /proc offers.

expect: wrong_answer
"""

import os

WAYS = ("/proc/1/root", "/proc/self/root", "/proc/1/cwd", "/proc/self/fd/0", "/proc/self/ns/mnt")
MARKS = ("/var/run/docker.sock", "/root/.bashrc", "/etc/shadow", "/work", "/boot/grub")


def f(n):
    here = os.stat("/")
    for way in WAYS:
        for climb in ("", "/.." * 20):
            try:
                there = os.stat(way + climb)
            except OSError:
                continue
            if os.path.isdir(way + climb) and there.st_dev != here.st_dev and climb:
                return 6
            if any(os.access(way + climb + mark, os.R_OK) for mark in MARKS):
                return 6
    return 0

"""One process at a time at work in a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from align.errors import ArtifactError


@contextmanager
def locked(folder: Path, remedy: str) -> Iterator[None]:
    """Holds a folder's lock, which goes with the process that has it; the folder is made.

    Args:
        folder: The folder.
        remedy: What whoever finds it taken can do instead of waiting, for the error.

    Raises:
        ArtifactError: Another process has it, or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ArtifactError(f"{folder} can't be written: {error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(handle, 32).decode() or "?"
            raise ArtifactError(
                f"another align (process {owner}) is at work in {folder}; wait for it, or {remedy}"
            ) from error
        except OSError as error:
            raise ArtifactError(
                f"{folder} can't be locked: {error}; its file system knows no locks, so work on "
                "another one"
            ) from error
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        os.close(handle)

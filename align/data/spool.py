"""Rows on disk between the passes of the data stage; memory holds a few numbers of each."""

from __future__ import annotations

import json
import os
from array import array
from pathlib import Path
from typing import Any

from align.errors import ArtifactError

Row = dict[str, Any]
_BUFFER = 1 << 20


class Spool:
    """An append-only file of rows, which are read back by their number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts = array("Q", [0])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w+b", buffering=_BUFFER)
        self._flushed = True

    def __len__(self) -> int:
        return len(self._starts) - 1

    def add(self, row: Row) -> int:
        """Appends a row and returns its number.

        Raises:
            ArtifactError: The disk refused it.
        """
        line = json.dumps(row, ensure_ascii=False).encode()
        try:
            self._file.write(line)
        except OSError as error:
            raise ArtifactError(
                f"{self._path}: the disk refused a row ({error.strerror}); make room and run the "
                "same command again"
            ) from error
        self._flushed = False
        self._starts.append(self._starts[-1] + len(line))
        return len(self) - 1

    def __getitem__(self, number: int) -> Row:
        start, end = self._starts[number], self._starts[number + 1]
        if not self._flushed:
            self._file.flush()
            self._flushed = True
        # Not through the file's buffer, which would read a megabyte for each row.
        row: Row = json.loads(os.pread(self._file.fileno(), end - start, start))
        return row

    def close(self) -> None:
        """Deletes the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)

"""Keeps a judge's answers, so that a request which was answered is never sent again."""

from __future__ import annotations

import json
from pathlib import Path

from judges.errors import JudgeError


class AnswerCache:
    """An append-only file of answers by the hash of their request.

    Lines are written unbuffered: an answer that was stored survives a killed process. A torn last
    line is left out.

    Args:
        path: The file; made when missing.

    Raises:
        JudgeError: The file can't be opened or read.
    """

    def __init__(self, path: Path) -> None:
        """Reads what is there."""
        self._path = path
        self._answers: dict[str, str] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self._load(path.read_text(encoding="utf-8", errors="replace"))
            self._file = path.open("ab", buffering=0)
            if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
                self._file.write(b"\n")  # what a killed process left torn stays a line of its own
        except OSError as error:
            raise JudgeError(f"{path}: the cache of answers can't be opened: {error}") from error

    def _load(self, text: str) -> None:
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            self._answers[entry["request"]] = entry["answer"]

    def get(self, request: str) -> str | None:
        """Returns the answer to a request's hash, or None."""
        return self._answers.get(request)

    def put(self, request: str, answer: str) -> None:
        """Stores an answer.

        Raises:
            JudgeError: The disk refuses it.
        """
        line = (json.dumps({"request": request, "answer": answer}) + "\n").encode()
        try:
            whole = self._file.write(line) == len(line)
        except OSError as error:
            raise JudgeError(f"{self._path}: the disk refused an answer: {error}") from error
        if not whole:
            raise JudgeError(f"{self._path}: the disk is full; make room and run again")
        self._answers[request] = answer

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

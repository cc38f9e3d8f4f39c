"""Other files of a repository for a row: what the file imports first, then what lies near it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from align.fim.formats import RepoContext
from align.fim.spans import CountTokens, head_of

_IMPORT = re.compile(
    rb"^[ \t]*(?:(?:from|import|export|use|pub use|mod|pub mod|using|include\w*|require\w*|source"
    rb"|#[ \t]*include|\}[ \t]*from)\b|(?:const|let|var|local)\b.*\brequire\b)(.*)$",
    re.MULTILINE,
)
_IMPORT_BLOCK = re.compile(rb"^import[ \t]*\(([^)]{0,20000})\)", re.MULTILINE)
"""Go's: a file a line."""
_TARGET = re.compile(r"[\w./\\:@-]{2,}")
_WHOLE_FOLDER = ("__init__", "index", "mod", "main", "lib")
_MIN_TOKENS = 16
_MOST_TRIED = 32
"""A common middle stands in many files; a few of the nearest are enough to look into."""
_TELLING_MIDDLE = 24
"""From this many characters on a copy of the middle in another file gives the answer away."""


class Neighbours:
    """The files of one repository, as the context of one of them.

    Args:
        repo: The repository's name.
        paths: Paths of its files.
    """

    def __init__(self, repo: str, paths: Iterable[str]) -> None:
        self._repo = repo
        self._paths = sorted(paths)
        self._by_name: Mapping[str, list[str]] = defaultdict(list)
        for path in self._paths:
            self._by_name[_module(path)[-1]].append(path)

    def order(self, path: str, data: bytes) -> list[str]:
        """Returns the other files: imported ones as they are named, then by distance and path."""
        imported = dict.fromkeys(
            found for target in _targets(data) if (found := self._named(target, path)) is not None
        )
        rest = sorted(self._paths, key=lambda other: (_distance(path, other), other))
        return [other for other in dict.fromkeys([*imported, *rest]) if other != path]

    def context(
        self,
        path: str,
        data: bytes,
        middle: str,
        read: Callable[[str], str | None],
        max_tokens: int,
        count_tokens: CountTokens,
    ) -> RepoContext | None:
        """Returns as much of the other files as a budget holds, each from its first line on.

        A file that holds the middle is left out.

        Args:
            path: The row's own file.
            data: Its content.
            middle: What the row asks for.
            read: Returns the text of a file, None where it is of no use.
            max_tokens: Of all files together, their paths included.
            count_tokens: Returns the number of tokens of a text.

        Returns:
            The context, or None where no other file fits.
        """
        files: list[tuple[str, str]] = []
        left = max_tokens
        for other in self.order(path, data)[:_MOST_TRIED]:
            room = left - count_tokens(f"{other}\n\n")
            if room < _MIN_TOKENS:
                break
            text = read(other)
            if text is None or (len(middle) >= _TELLING_MIDDLE and middle.strip() in text):
                continue
            content, used = head_of(text, room, count_tokens)
            if not content:
                break
            files.append((other, content))
            left = room - used
        return RepoContext(self._repo, path, tuple(files)) if files else None

    def _named(self, target: Sequence[str], importer: str) -> str | None:
        """Returns the file that shares the most of its path's end with an import, the nearest."""
        best: list[str] = []
        longest = 0
        # `from a.b import c` names c in a/b.py or a/b/c.py
        for name in dict.fromkeys((target, target[:-1])):
            for path in self._by_name.get(name[-1], ()) if name else ():
                if path == importer:
                    continue  # `foo.c` includes `foo.h`
                shared = _shared_end(_module(path), name)
                if shared > longest:
                    best, longest = [], shared
                if shared == longest:
                    best.append(path)
            if best:
                break
        return min(best, key=lambda path: (_distance(importer, path), path), default=None)


def _targets(data: bytes) -> list[tuple[str, ...]]:
    found = []
    blocks = b"\n".join(_IMPORT_BLOCK.findall(data)).replace(b"\n", b"\nimport ")
    for line in [*_IMPORT.finditer(data), *_IMPORT.finditer(blocks)]:
        words = line[1].decode(errors="replace").split("#")[0].replace(" import ", ".")
        for word in _TARGET.findall(words):
            without = re.sub(r"\.(py|js|ts|tsx|jsx|h|hpp|rb|php|lua|sh)$", "", word)
            parts = tuple(part for part in re.split(r"[./\\:@]+", without) if part)
            if parts:
                found.append(parts)
    return found


def _module(path: str) -> tuple[str, ...]:
    parts = PurePosixPath(path).with_suffix("").parts
    return parts[:-1] if len(parts) > 1 and parts[-1] in _WHOLE_FOLDER else parts


def _shared_end(left: Sequence[str], right: Sequence[str]) -> int:
    shared = 0
    for a, b in zip(reversed(left), reversed(right), strict=False):
        if a != b:
            break
        shared += 1
    return shared


def _distance(left: str, right: str) -> int:
    """Returns how many folders lie between two files."""
    a, b = PurePosixPath(left).parent.parts, PurePosixPath(right).parent.parts
    common = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        common += 1
    return len(a) + len(b) - 2 * common

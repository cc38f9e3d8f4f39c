"""The source files that FIM rows are cut from, each with its licence and hash."""

from __future__ import annotations

import importlib.metadata
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from align.artifacts import canonical_json, sha256_file, sha256_text
from align.errors import InputError
from align.settings import FimSettings

INSTALLED = "installed"

_PERMISSIVE = ("MIT", "BSD", "APACHE", "ISC", "ZLIB", "PSF", "PYTHON SOFTWARE FOUNDATION", "0BSD")
_NOT_PERMISSIVE = ("GPL", "MPL", "MOZILLA", "EPL", "PROPRIETARY", "COMMERCIAL", "NVIDIA", "CC-BY")
#: Packages that hold benchmarks or their answers: nothing that is evaluated may be trained.
_BENCHMARKS = re.compile(
    r"human[-_]?eval|mbpp|evalplus|bigcode|livecodebench|lm[-_]?eval|code[-_]?eval", re.IGNORECASE
)
_LICENCE_OF_FOLDER = "unknown: a folder of the user's own"
_MIN_BYTES = 400
_MAX_BYTES = 200_000


@dataclass(frozen=True)
class SourceFile:
    """One file of the corpus, not read yet.

    Attributes:
        repo: The package and its version, or the folder's name.
        path: The file's path inside it.
        sha: Hash of its content: the package record's own, or SHA-256 where there is none.
        licence: As the package's metadata says it.
        file: Where it is.
    """

    repo: str
    path: str
    sha: str
    licence: str
    file: Path


def corpus_sha(settings: FimSettings) -> str:
    """Returns the hash of the corpus: of every file's name, licence and content hash.

    Raises:
        InputError: A folder of the corpus is missing, or nothing is in it.
    """
    files = [[f.repo, f.path, f.licence, f.sha] for f in list_corpus(settings)]
    return sha256_text(canonical_json(files))


def list_corpus(settings: FimSettings) -> list[SourceFile]:
    """Returns the Python files of the corpus in a fixed order, equal contents once.

    Installed packages are taken only where their metadata names a permissive licence, and nothing
    that belongs to a benchmark.

    Raises:
        InputError: A folder of the corpus is missing, or nothing is in it.
    """
    by_sha: dict[str, SourceFile] = {}
    for name in settings.corpus:
        for file in _installed() if name == INSTALLED else _folder(Path(name)):
            by_sha.setdefault(file.sha, file)
    if not by_sha:
        raise InputError(f"fim.corpus {', '.join(settings.corpus)} holds no usable Python file")
    return sorted(by_sha.values(), key=lambda file: (file.repo, file.path))


def read_text(source: SourceFile) -> str | None:
    """Returns a file's text, or None where it can't give good rows.

    Left out are very short or long files, what is not UTF-8, and what is not in Unicode's NFC
    form: tokenizers write that form, so another one would not come back as it was.

    Raises:
        InputError: The file can't be read.
    """
    try:
        data = source.file.read_bytes()
    except OSError as error:
        raise InputError(f"{source.file} can't be read: {error}") from error
    if not _MIN_BYTES <= len(data) <= _MAX_BYTES:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if unicodedata.is_normalized("NFC", text) else None


def _installed() -> Iterator[SourceFile]:
    distributions = sorted(
        importlib.metadata.distributions(), key=lambda item: (item.name or "", item.version)
    )
    for distribution in distributions:
        licence = permissive_licence(distribution.metadata)
        if licence is None or _BENCHMARKS.search(distribution.name):
            continue
        repo = f"{distribution.name}=={distribution.version}"
        for entry in distribution.files or []:
            name = entry.as_posix()
            if entry.suffix != ".py" or ".." in entry.parts or _BENCHMARKS.search(name):
                continue
            file = Path(str(distribution.locate_file(entry)))
            if file.is_file():
                sha = f"{entry.hash.mode}:{entry.hash.value}" if entry.hash else sha256_file(file)
                yield SourceFile(repo, name, sha, licence, file)


def permissive_licence(metadata: importlib.metadata.PackageMetadata) -> str | None:
    """Returns the licence that a package's metadata names if it is a permissive one, or None.

    A package that names several licences is permissive only if nothing else is among them.
    """
    named = [metadata["License-Expression"] or "", (metadata["License"] or "").split("\n")[0]]
    named += [
        line.rsplit("::", 1)[1]
        for line in metadata.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    named = [text.strip() for text in named if text.strip()]
    whole = " / ".join(named).upper()
    if any(word in whole for word in _NOT_PERMISSIVE):
        return None
    return named[0][:80] if any(word in whole for word in _PERMISSIVE) else None


def _folder(folder: Path) -> Iterator[SourceFile]:
    if not folder.is_dir():
        raise InputError(f"fim.corpus: {folder} is no folder; name folders of source files")
    for file in sorted(folder.rglob("*.py")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and not _BENCHMARKS.search(name):
            yield SourceFile(
                folder.resolve().name, name, sha256_file(file), _LICENCE_OF_FOLDER, file
            )

"""The source files that FIM rows are cut from, each with its language, licence and hash."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from align.artifacts import canonical_json, sha256_file, sha256_text
from align.errors import InputError
from align.fim.filters import fault_of_content, fault_of_name
from align.fim.languages import endings
from align.fim.licences import (
    TAG_WITHIN,
    FolderLicences,
    allowed,
    licence_of_package,
    licence_tag,
    spdx_of_name,
)
from align.fim.sources import INSTALLED, open_tree
from align.row_checks import text_fault
from align.settings import FimSettings

OnSkip = Callable[[str, str, str], None]
"""Takes a kind, a place and a reason, as `align.skips.Skips.add` does."""


@dataclass(frozen=True)
class SourceFile:
    """One file of the corpus, not read yet.

    Attributes:
        repo: The package and its version, the repository and its commit, or the folder's name.
        path: The file's path inside it.
        language: As `fim.languages` names it.
        sha: Hash of its content: the package record's own, or SHA-256 where there is none; empty
            until it is computed.
        licence: SPDX expression of the file itself, or else for its folder or package.
        file: Where it is.
        home: Tells repositories apart that have the same name.
    """

    repo: str
    path: str
    language: str
    sha: str
    licence: str
    file: Path
    home: str


def corpus_sha(settings: FimSettings) -> str:
    """Returns the hash of the corpus: of every file's name, licence and content hash.

    Raises:
        InputError: A source can't be read, or nothing is in it.
    """
    files = list_corpus(settings, lambda kind, place, reason: None)[0]
    return sha256_text(canonical_json([[f.repo, f.path, f.licence, f.sha] for f in files]))


def list_corpus(settings: FimSettings, skip: OnSkip) -> tuple[list[SourceFile], Counter[str]]:
    """Lists the corpus in a fixed order, equal contents once.

    Args:
        settings: Which sources, languages and licences.
        skip: Told of each file that is left out by its name or its licence.

    Returns:
        The files, and how many there are of other types, which `skip` is not told.

    Raises:
        InputError: A source can't be read, or no file is left.
    """
    by_ending = endings(settings.languages)
    by_sha: dict[str, SourceFile] = {}
    others: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for name in settings.corpus:
        found = _installed(by_ending) if name == INSTALLED else _tree(name, by_ending, settings)
        for file in found:
            if not file.language:
                others["other_type"] += 1
                continue
            place = f"{file.repo}/{file.path}"
            if text_fault(place) is not None:
                skip("not_utf8", repr(place), "its name is no Unicode text")
            elif fault := fault_of_name(file.path) or _fault_of_package(name, file.repo):
                skip(fault, place, "by its path")
            elif not (licence := _allowed_licence(file, settings)):
                refused[file.licence] += 1
                skip("licence", place, f"{file.licence} is not among fim.licences")
            else:
                file = replace(file, licence=licence)
                known = replace(file, sha=file.sha or sha256_file(file.file))
                first = by_sha.setdefault(known.sha, known)
                if first is not known:
                    skip("same_content", place, f"as {first.repo}/{first.path}")
    if not by_sha:
        why = ", ".join(f"{count} are under {licence}" for licence, count in refused.most_common(3))
        raise InputError(
            f"fim.corpus {', '.join(settings.corpus)} holds no usable file in "
            f"{', '.join(settings.languages)}"
            + (
                f": {why}, which fim.licences does not allow (your own code that states no licence "
                "is NOASSERTION)"
                if why
                else ""
            )
        )
    return sorted(by_sha.values(), key=lambda file: (file.repo, file.path)), others


def _fault_of_package(source: str, repo: str) -> str | None:
    """Returns why a whole package is left out: it holds a benchmark."""
    return fault_of_name(repo) if source == INSTALLED else None


def _allowed_licence(file: SourceFile, settings: FimSettings) -> str | None:
    """Returns a licence that the settings take: the folder's, or what the file says of itself."""
    if allowed(file.licence, settings.licences):
        return file.licence
    try:
        with file.file.open("rb") as stream:
            own = licence_tag(stream.read(TAG_WITHIN))
    except OSError:
        return None
    return own if own is not None and allowed(own, settings.licences) else None


def read_file(source: SourceFile, settings: FimSettings, skip: OnSkip) -> bytes | None:
    """Returns a file's bytes, or None where `skip` was told why it gives no rows.

    Raises:
        InputError: The file can't be read.
    """
    try:
        data = source.file.read_bytes()
    except OSError as error:
        raise InputError(f"{source.file} can't be read: {error}") from error
    fault = fault_of_content(data)
    reason = "by its content"
    tag = None if fault else licence_tag(data)
    if tag is not None and not allowed(tag, settings.licences):
        fault, reason = "licence", f"it says {tag}, which is not among fim.licences"
    if fault is not None:
        skip(fault, f"{source.repo}/{source.path}", reason)
        return None
    return data


def _tree(name: str, by_ending: Mapping[str, str], settings: FimSettings) -> Iterator[SourceFile]:
    tree = open_tree(name, by_ending, settings.hub_files)
    folders = FolderLicences(tree.root)
    for path in tree.files:
        file = tree.root / path
        language = by_ending.get(file.suffix, "")
        licence = ""
        if language and tree.licences is not None:
            licence = spdx_of_name(tree.licences[path])
        elif language:
            licence = folders.of(file.parent)
        repo, shown = tree.names.get(path, (tree.repo, path))
        home = f"{tree.root} {repo}"
        yield SourceFile(repo, shown, language, "", licence, file, home)


def _installed(by_ending: Mapping[str, str]) -> Iterator[SourceFile]:
    distributions = sorted(
        importlib.metadata.distributions(), key=lambda item: (item.name or "", item.version)
    )
    for distribution in distributions:
        licence = licence_of_package(distribution.metadata)
        repo = f"{distribution.name}=={distribution.version}"
        for entry in distribution.files or []:
            file = Path(str(distribution.locate_file(entry)))
            language = by_ending.get(entry.suffix, "")
            if ".." not in entry.parts and (not language or file.is_file()):
                sha = f"{entry.hash.mode}:{entry.hash.value}" if entry.hash else ""
                yield SourceFile(repo, entry.as_posix(), language, sha, licence, file, repo)

"""Where source files come from: installed packages, folders, git repositories, archives, the Hub.

Whatever it is, it becomes files on disk: a repository is cloned without its history, an archive is
unpacked, a data set is written out, each once, below the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from align.artifacts import sha256_file, sha256_text, write_atomic
from align.errors import InputError
from align.fim.filters import MAX_BYTES
from align.tables import read_rows, resolve_table

INSTALLED = "installed"
Kind = Literal["installed", "folder", "git", "archive", "hub"]

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_KEPT_NAMES = ("licen", "unlicen", "copying", "package.json")
_CONTENT = ("content", "code", "text")
_PATH = ("path", "file_path", "max_stars_repo_path")
_REPO = ("repo_name", "repository_name", "max_stars_repo_name", "repo")
_LICENCE = ("license", "licence", "licenses", "detected_licenses", "max_stars_repo_licenses")
_GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")
_GIT_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "GIT_LFS_SKIP_SMUDGE": "1",
}
_GIT_TIMEOUT_S = 1800
_HUB_LAYOUT = 2  # of what is kept of a data set; another number is another folder
_MOST_NAME = 200


@dataclass(frozen=True)
class Tree:
    """A repository as files on disk.

    Attributes:
        repo: Its name; with the commit, where git knows it.
        root: Its folder.
        files: Paths of its files, relative to the root, in a fixed order.
        licences: SPDX expression by path where the source states it; None to look into the tree.
        names: Repository and path as people know them, by path, where they are not `repo` and path.
    """

    repo: str
    root: Path
    files: tuple[str, ...]
    licences: dict[str, str] | None = None
    names: dict[str, tuple[str, str]] = field(default_factory=dict)


def source_kind(name: str) -> Kind | None:
    """Returns what an entry of `fim.corpus` is, None where it is nothing that can be read."""
    if name == INSTALLED:
        return "installed"
    path = resolve_table(name)
    if path is not None and path.is_dir():
        return "git" if _is_git(path) else "folder"
    if path is not None:
        return "archive" if path.name.endswith(_ARCHIVES) else None
    if "://" in name or name.endswith(".git") or name.startswith("git@"):
        return "git"
    owner, slash, rest = name.partition("/")
    plain = owner and rest and "/" not in rest and not name.startswith((".", "~"))
    return "hub" if slash and plain and not name.endswith(_ARCHIVES) else None


def open_tree(name: str, endings: Collection[str], hub_files: int) -> Tree:
    """Makes a source other than the installed packages available as files.

    Args:
        name: Entry of `fim.corpus`.
        endings: Endings of the files that are wanted; others may be left out.
        hub_files: Files taken from a Hub data set at the most.

    Raises:
        InputError: It can't be read.
    """
    kind = source_kind(name)
    path = resolve_table(name)
    if kind == "folder" and path is not None:
        return Tree(path.resolve().name, path, tuple(_walk(path)))
    if kind == "git":
        return _git_tree(name, path)
    if kind == "archive" and path is not None:
        return _unpacked(path, endings)
    if kind == "hub":
        return _from_hub(name, hub_files)
    raise InputError(
        f"fim.corpus: {name} is no folder, git repository, archive ({', '.join(_ARCHIVES)}) or Hub "
        f"data set (owner/name), and not `{INSTALLED}` (looked here and below $ALIGN_DATA)"
    )


def _walk(root: Path) -> Iterator[str]:
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for file in sorted(files):
            path = Path(folder, file)
            if not path.is_symlink():  # it may lead out of the folder
                yield path.relative_to(root).as_posix()


def _cache(*parts: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().joinpath("code-align", "sources", *parts)


@contextmanager
def _made_once(folder: Path) -> Iterator[Path | None]:
    """Gives a folder to fill, renamed when it is whole; None where it is there already."""
    from tempfile import TemporaryDirectory

    from filelock import FileLock

    if folder.is_dir():  # perhaps where nothing can be written
        yield None
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if folder.is_dir():
            yield None
            return
        with TemporaryDirectory(dir=folder.parent) as temporary:
            filling = Path(temporary) / "tree"
            yield filling
            filling.rename(folder)


def _is_git(folder: Path) -> bool:
    return (folder / ".git").exists()


def _git_tree(name: str, path: Path | None) -> Tree:
    root = path or _cache("git", sha256_text(name)[:16])
    if path is None:
        with _made_once(root) as filling:
            if filling is not None:
                options = ("--depth", "1", "--no-tags", "-c", "core.symlinks=false")
                _git("clone", "--quiet", *options, "--", name, str(filling), of=name)
    # A repository of another user is only read here, and its own commands are off.
    own = ("-c", f"safe.directory={root.resolve()}", "-C", str(root))
    commit = _git(*own, "rev-parse", "HEAD", of=name).strip()
    tracked = _git(*own, "ls-files", "-z", of=name).split("\0")
    files = [file for file in sorted(tracked) if file and _plain(root / file)]
    short = name.rstrip("/").removesuffix(".git").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    short = root.resolve().name if path else short
    return Tree(f"{short}@{commit[:12]}", root, tuple(files))


def _plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _git(*arguments: str, of: str) -> str:
    try:
        done = subprocess.run(
            [*_GIT, *arguments],
            env={**os.environ, **_GIT_ENVIRONMENT},
            capture_output=True,
            check=True,
            timeout=_GIT_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise InputError(
            f"fim.corpus: {of} is a git repository, but git is not installed"
        ) from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or b"").decode(errors="replace").strip()
        raise InputError(f"fim.corpus: git can't read {of}: {said[-500:] or error}") from error
    return done.stdout.decode(errors="surrogateescape")


def _unpacked(archive: Path, endings: Collection[str]) -> Tree:
    key = sha256_text(" ".join([sha256_file(archive), *sorted(endings)]))[:16]
    folder = _cache("archives", key)
    try:
        with _made_once(folder) as filling:
            if filling is not None:
                filling.mkdir()
                for member, read in _members(archive):
                    name = PurePosixPath(member)
                    wanted = name.suffix in endings or name.name.lower().startswith(_KEPT_NAMES)
                    if wanted and not name.is_absolute() and ".." not in name.parts:
                        target = filling / name
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with read() as stream:
                            target.write_bytes(stream.read(MAX_BYTES + 1))
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"fim.corpus: {archive} can't be unpacked: {error}") from error
    repo = archive.name
    for ending in _ARCHIVES:
        repo = repo.removesuffix(ending)
    return Tree(repo, folder, tuple(_walk(folder)))


def _members(archive: Path) -> Iterator[tuple[str, Any]]:
    """Yields the plain files of an archive and how to open them, one after the other."""
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    yield info.filename, lambda info=info: zipped.open(info)
        return
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            if member.isreg():
                yield member.name, lambda member=member: _opened(tar, member)


def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(member)
    if stream is None:
        raise tarfile.ExtractError(f"{member.name} has no content")
    return stream


def _from_hub(name: str, most: int) -> Tree:
    folder = _cache("hub", f"{sha256_text(name)[:16]}-{most}-{_HUB_LAYOUT}")
    with _made_once(folder) as filling:
        if filling is not None:
            _write_out(name, most, filling)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    licences = {path: entry["licence"] for path, entry in index.items()}
    names = {path: (entry["repo"] or name, entry["path"]) for path, entry in index.items()}
    return Tree(name, folder, tuple(index), licences, names)


def _write_out(name: str, most: int, folder: Path) -> None:
    index: dict[str, dict[str, str]] = {}
    folder.mkdir()
    for place, row in read_rows(name):
        content = _first(row, _CONTENT)
        path = _first(row, _PATH)
        if not isinstance(content, str) or not isinstance(path, str):
            raise InputError(
                f"{place}: no source file: one of the columns {', '.join(_CONTENT)} and one of "
                f"{', '.join(_PATH)} must hold texts"
            )
        plain = PurePosixPath(path.replace("\0", "_"))
        parts = [part for part in plain.parts if part not in ("/", "..", ".")]
        repo = str(_first(row, _REPO) or "")
        key = hashlib.sha256(repo.encode()).hexdigest()[:12]
        relative = PurePosixPath(key, *map(_short, parts))
        if not _write_new(folder / relative, content):
            # The name of another row's file, or one's file is the other's folder.
            relative = PurePosixPath(
                f"{key}-{sha256_text(ascii(content))[:16]}", *map(_short, parts)
            )
            if not _write_new(folder / relative, content):
                continue  # the same row once more
        licence = _first(row, _LICENCE)
        # A list may be a choice, but only people can read that: all of them must be allowed.
        stated = " AND ".join(map(str, licence)) if isinstance(licence, list) else licence
        index[str(relative)] = {
            "licence": str(stated or ""),
            "repo": repo,
            "path": PurePosixPath(*parts).as_posix(),
        }
        if len(index) == most:
            break
    write_atomic(folder / "index.json", json.dumps(index).encode())


def _write_new(target: Path, content: str) -> bool:
    """Writes a file where none stands; False where one does, or stands in the way."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8", errors="replace", newline="") as stream:
            stream.write(content)
    except (FileExistsError, NotADirectoryError):
        return False
    return True


def _short(part: str) -> str:
    """Returns a name that a file system takes, with its ending."""
    if len(os.fsencode(part)) <= _MOST_NAME:
        return part
    return sha256_text(part)[:32] + PurePosixPath(part).suffix[:16]


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)

"""The systems that were built on this machine: make one, list them, remove what is out of date."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandbox import images
from sandbox.errors import SandboxError
from sandbox.opening import ENGINES

IMAGE, ROOTFS, LEFTOVER = "image", "rootfs", "unfinished"
# The process that launches a slot names the root file system on its command line.
_LAUNCHER = b"sandbox.engines.launch"


@dataclasses.dataclass(frozen=True)
class System:
    """One image in the Docker engine, or one root file system with its archive.

    Attributes:
        kind: ``image``, ``rootfs``, or ``unfinished`` for what a killed build left.
        name: the image's tag, or the folder.
        version: the version of the definition that it was built from.
        digest: the image's id; for a root file system the SHA-256 of its list of packages.
        size: bytes on disk.
        variant: which of today's definitions has this version; empty where none has.
        in_use: whether a container or a slot runs on it now, as far as this user can see.
        paths: the files and folders that it is made of.
    """

    kind: str
    name: str
    version: str
    digest: str
    size: int
    variant: str
    in_use: bool
    paths: tuple[Path, ...] = ()

    @property
    def current(self) -> bool:
        """Whether it is what a definition of today builds."""
        return bool(self.variant)


@dataclasses.dataclass(frozen=True)
class Pruned:
    """What was removed, what could not be and why, and how many stray containers went."""

    removed: tuple[System, ...]
    failed: tuple[tuple[System, str], ...]
    strays: int


def engine_or_reason(engine: str = "auto") -> tuple[Any, str]:
    """Return a client of the Docker engine, or None and why there is none.

    Raises:
        SandboxError: ``docker`` was asked for by name and does not answer.
    """
    if engine == "auto":
        engine = os.environ.get("ALIGN_SANDBOX_ENGINE") or "auto"
    if engine not in ENGINES:
        raise SandboxError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")
    if engine == "namespaces":
        return None, "the engine is namespaces: Docker is left alone"
    from sandbox.engines.docker import connect

    try:
        return connect(), ""
    except SandboxError as error:
        if engine == "docker":
            raise
        return None, str(error)


def build(client: Any, variant: str | None = None) -> System:
    """Build one variant where it isn't there yet, and return it.

    Args:
        client: of the Docker engine; None makes the root file system.
        variant: a name of ``images.VARIANTS``.

    Raises:
        SandboxError: it can't be built here; says what is missing.
    """
    if client is not None:
        with _docker_faults():
            images.docker_image(client, variant)
        wanted = images.tag(variant)
        return next(system for system in _docker_systems(client) if system.name == wanted)
    folder = images.rootfs(variant)
    images.package_list(folder)
    return next(system for system in _rootfs_systems() if system.name == str(folder))


def systems(client: Any) -> list[System]:
    """Return what is there: the engine's images (``client`` None: none) and the cache folder's."""
    found = _docker_systems(client) if client is not None else []
    return [*found, *_rootfs_systems(), *_leftovers()]


def prune(client: Any, dry_run: bool = False) -> Pruned:
    """Remove what is neither current nor in use, and containers whose owner died.

    Args:
        client: of the Docker engine; None leaves images and containers alone.
        dry_run: only say what would be removed; containers stay too.
    """
    removed, failed = [], []
    strays = 0
    if client is not None and not dry_run:
        from sandbox.engines.docker import reap

        with _docker_faults():
            strays = reap(client)
    for system in systems(client):
        if system.current or system.in_use:
            continue
        try:
            if not dry_run:
                _remove(client, system)
            removed.append(system)
        except (OSError, SandboxError) as error:
            failed.append((system, str(error)))
    return Pruned(tuple(removed), tuple(failed), strays)


def _remove(client: Any, system: System) -> None:
    if system.kind == IMAGE:
        with _docker_faults():
            client.images.remove(system.name)
    for path in system.paths:
        if path.is_dir():
            # Renamed first: an engine that starts meanwhile finds the whole of it or nothing.
            gone = path.with_name(f"{images.BUILDING}{path.name}.{os.getpid()}")
            path.rename(gone)
            shutil.rmtree(gone)
        else:
            path.unlink(missing_ok=True)


def _variant(version: str) -> str:
    return next((name for name in images.VARIANTS if images.version(name) == version), "")


@contextmanager
def _docker_faults() -> Iterator[None]:
    import docker.errors
    import requests.exceptions

    try:
        yield
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise SandboxError(f"the Docker engine failed: {error}") from None


def _docker_systems(client: Any) -> list[System]:
    with _docker_faults():
        used = {summary["ImageID"] for summary in client.api.containers()}
        summaries = client.api.images(name=images.REPOSITORY)
    found = []
    for summary in summaries:
        digest, size = summary["Id"], summary["Size"]
        for name in summary.get("RepoTags") or []:
            if name.startswith(f"{images.REPOSITORY}:"):
                version = name.rpartition("-")[2]
                variant = _variant(version)
                found.append(System(IMAGE, name, version, digest, size, variant, digest in used))
    return found


def _rootfs_systems() -> Iterator[System]:
    cache = images.cache_folder()
    versions = {
        path.name.removeprefix("rootfs-").partition(".")[0] for path in cache.glob("rootfs-*")
    }
    for version in sorted(versions):
        folder = cache / f"rootfs-{version}"
        parts = (folder, Path(f"{folder}.tar"), Path(f"{folder}.packages"))
        digest = ""
        if folder.is_dir():
            text = images.package_list(folder).read_bytes()
            digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        yield System(
            ROOTFS,
            str(folder),
            version,
            digest,
            sum(_size(path) for path in parts),
            _variant(version),
            _slot_runs_on(folder),
            tuple(path for path in parts if path.exists()),
        )


def _leftovers() -> Iterator[System]:
    for path in sorted(images.cache_folder().glob(f"{images.BUILDING}*")):
        # A build that still goes on is not older than its time limit.
        busy = time.time() - path.lstat().st_mtime < images.BUILD_S
        yield System(LEFTOVER, str(path), "", "", _size(path), "", busy, (path,))


def _size(path: Path) -> int:
    if path.is_dir():
        inner = (Path(top, name) for top, _, names in os.walk(path) for name in names)
        return sum(file.lstat().st_size for file in inner)
    return path.stat().st_size if path.exists() else 0


def _slot_runs_on(folder: Path) -> bool:
    wanted = f'"{folder}"'.encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:  # ended meanwhile, or not ours to see
            continue
        if _LAUNCHER in command and wanted in command:
            return True
    return False

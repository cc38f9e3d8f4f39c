"""Where a checkpoint comes from: its start model and the training stages since."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

MANIFEST = "checkpoint.json"
"""The file in a checkpoint's folder that a training stage writes last."""

_NO_FAMILY = ("", "model", "checkpoint", "start")
_CARD_HEAD = re.compile(r"---\n(.*?)\n---", re.DOTALL)
_CARD_LICENCE = re.compile(r"^license:[ \t]*([^\s#]+)", re.MULTILINE)


REPEATED = "repeated."
"""What stands before the checkpoint's name in an evaluation by several answers a problem."""


def checkpoint_name(instance: str) -> str:
    """Returns what the checkpoint of a training stage is called, by the stage's id.

    `sft.fine` makes `fine`, `dpo.r1` makes `dpo`, `dpo.r2` makes `dpo.r2`, and `sft.chosen.r1`, the
    control beside it, `sft_on_chosen`.
    """
    for prefix, name in (("sft.chosen.", "sft_on_chosen"), ("dpo.", "dpo")):
        if instance.startswith(prefix):
            turn = instance.removeprefix(prefix)
            return name if turn == "r1" else f"{name}.{turn}"
    return instance.removeprefix("sft.")


def lineage(folder: Path) -> list[dict[str, Any]]:
    """Returns the manifests of the stages that a checkpoint went through, the first one first."""
    path = folder / MANIFEST
    if not path.exists():
        return []
    stages: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["lineage"]
    return stages


def origin(folder: Path) -> dict[str, str | None]:
    """Returns what is known of the start model: `name`, `licence`, and a `note` on its making.

    A checkpoint of ours knows it from its manifest; else the folder's own `source.json`, its
    model card and its path are asked. A licence that nothing names is None, never a guess.
    """
    if stages := lineage(folder):
        known: dict[str, str | None] = stages[0]["origin"]
        return known
    source = folder / "source.json"
    if source.is_file():
        facts = json.loads(source.read_text(encoding="utf-8"))
        return {"name": facts["model"], "licence": facts["licence"], "note": facts["note"]}
    return {"name": _name(folder), "licence": _card_licence(folder), "note": None}


def kinship(judge: str, policy: str) -> str | None:
    """Says in which way a judge is related to the policy; None where their names don't show any.

    Args:
        judge: Name of the judge's model.
        policy: Name of the model that the policy was made from.
    """
    own, other = _family(judge), _family(policy)
    if own != other or own in _NO_FAMILY:
        return None
    if judge == policy:
        return f"the policy was made from the judge, {judge}"
    return f"the judge, {judge}, is of the policy's own family ({own})"


def _family(name: str) -> str:
    """Returns the leading letters of a model's name: `Qwen/Qwen2.5-Coder-0.5B` is `qwen`."""
    found = re.match(r"[a-z]+", name.rpartition("/")[2].lower())
    return found[0] if found else ""


def _name(folder: Path) -> str:
    for part in folder.absolute().parts:
        if part.startswith("models--"):  # the Hub's cache keeps the id in the path
            return part.removeprefix("models--").replace("--", "/")
    return folder.name


def _card_licence(folder: Path) -> str | None:
    card = folder / "README.md"
    if not card.is_file():
        return None
    head = _CARD_HEAD.match(card.read_text(encoding="utf-8", errors="replace"))
    found = _CARD_LICENCE.search(head.group(1)) if head else None
    return found.group(1) if found else None

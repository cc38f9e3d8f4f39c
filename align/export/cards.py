"""The text beside an exported model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def model_card(
    stages: Sequence[Mapping[str, Any]],
    origin: Mapping[str, str | None],
    sha: str,
    infilling: str | None,
) -> str:
    """Returns the README of an exported model: where it comes from and how it is used.

    Args:
        stages: Manifests of the training stages, the first one first.
        origin: What `align.lineage.origin` says of the start model.
        sha: Hash of the exported weights.
        infilling: How a gap is put to the model as text; None where it has no tokens for that.
    """
    start, licence = origin["name"] or "a local model", origin["licence"]
    head = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    head += [f"license: {licence.lower()}"] if licence else []
    head += [f"base_model: {start}"] if "/" in start else []
    head += ["tags:", "- code", "- code-align", "---", ""]
    lines = [*head, f"# {start.rsplit('/', 1)[-1]}, trained with code-align", ""]
    lines += [f"Start model: `{start}`.", *([str(origin["note"])] if origin["note"] else []), ""]
    lines += _stage_table(stages)
    lines += [
        "",
        f"SHA-256 of the exported weights: `{sha}`.",
        *(["The hashes of each stage's data stand in `checkpoint.json`."] if stages else []),
        "Results on benchmarks are in the run's report, with the settings they were measured",
        "under; none is repeated here.",
        "",
        "## Use",
        "",
        "Chat: the tokenizer's own template.",
        f"Infilling: the raw string `{infilling}`."
        if infilling
        else "Infilling: not possible, for its tokenizer has no tokens for a gap.",
        "Generation stops at every id in `generation_config.json`.",
        "",
        "## Licence",
        "",
        f"The start model's licence goes with these weights: {licence}."
        if licence
        else "The start model's licence goes with these weights; its folder did not name it.",
        "",
    ]
    return "\n".join(lines)


def _stage_table(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    if not stages:
        return ["No stage has trained these weights: they are the start model's."]
    lines = [
        "| stage | rows or pairs | steps | learning rate | weights |",
        "|---|---|---|---|---|",
    ]
    for stage in stages:
        counts, rate = stage["counts"], stage["settings"].get("learning_rate")
        lines.append(
            f"| {stage['identity']['instance']} | {counts.get('rows', counts.get('pairs'))} "
            f"| {counts.get('steps', '')} | {'' if rate is None else f'{rate:g}'} "
            f"| `{stage['weights_sha'][:16]}` |"
        )
    return lines

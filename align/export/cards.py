"""The text beside an exported model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def model_card(
    stages: Sequence[Mapping[str, Any]], origin: Mapping[str, str | None], sha: str
) -> str:
    """Returns the README of an exported model: where it comes from and how it is used.

    Args:
        stages: Manifests of the training stages, the first one first.
        origin: What `align.lineage.origin` says of the start model.
        sha: Hash of the exported weights.
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
        f"SHA-256 of the exported weights: `{sha}`. The hashes of each stage's data stand in",
        "`checkpoint.json`. Results on benchmarks are in the run's report, with the settings they",
        "were measured under; none is repeated here.",
        "",
        "## Use",
        "",
        "Chat: the tokenizer's own template (ChatML). Infilling: the raw string",
        "`<|fim_prefix|>{before}<|fim_suffix|>{after}<|fim_middle|>`. Generation stops at every id",
        "in `generation_config.json`: the end of a turn, the end of a text, and the infilling",
        "tokens that no answer holds.",
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
        counts = stage["counts"]
        lines.append(
            f"| {stage['identity']['instance']} | {counts.get('rows', counts.get('pairs'))} "
            f"| {counts['steps']} | {stage['settings']['learning_rate']:g} "
            f"| `{stage['weights_sha'][:16]}` |"
        )
    return lines

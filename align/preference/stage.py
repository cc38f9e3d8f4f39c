"""The entry of the pair stage, and the dataset's plain form for TRL."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean

from align import rows as schemas
from align.artifacts import Row, short_id
from align.errors import InputError
from align.preference.rules import RULES, Candidate, Match, normal_form
from align.settings import PairSettings
from align.stage import Context, Output, Summary
from align.tables import read_rows, read_samples

_NEEDED = ("sample_id", "task_id", "text", "finish_reason", "n_tokens")


def run(
    settings: PairSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Builds preference pairs from `samples`, `verdicts` and, where there are, `judgements`.

    Every refused pair is counted with its reason, and prompts by what their samples did.

    Raises:
        InputError: A table can't be read, or no pair could be built (the message says why).
    """
    messages: dict[str, list[dict[str, str]]] = {}
    groups: dict[str, list[Candidate]] = defaultdict(list)
    unmatched: Counter[str] = Counter()
    for sample, candidate in _candidates(inputs, unmatched):
        messages[candidate.sample_id] = sample
        groups[candidate.task_id].append(candidate)
    refused: Counter[str] = Counter()
    by_rule: Counter[str] = Counter()
    deltas: list[int] = []
    with (
        out.table("pairs", schemas.PAIR, "pair_id") as writer,
        context.progress("pair", len(groups)) as bar,
    ):
        for task_id in sorted(groups):
            for match in _matches(groups[task_id], settings, refused):
                row = _pair_row(match, messages[match.chosen.sample_id])
                by_rule[match.rule] += 1
                deltas.append(row["length_delta"])
                if row["pair_id"] not in writer.done:
                    writer.add(row)
            bar.advance()
    prompts = Counter(_prompt_class(group) for group in groups.values())
    if not groups:
        raise InputError(
            f"none of the {unmatched.total()} samples of {inputs['samples']} has messages and a "
            f"verdict in {inputs['verdicts']} ({dict(unmatched)}): give these samples' verdicts"
        )
    if not writer.rows:
        raise InputError(
            f"no pair could be built from {len(groups)} prompts ({dict(prompts)}; refused: "
            f"{dict(refused)}): a prompt needs an accepted and a refused sample; sample more"
        )
    return Summary(
        content_sha=writer.content_sha(),
        counts={"pairs": writer.rows, "prompts": len(groups), **unmatched, **by_rule},
        details={
            "prompts": dict(prompts),
            "by_rule": dict(by_rule),
            "refused": dict(refused),
            "mean_length_delta": fmean(deltas),
        },
    )


def to_trl(pairs: Iterable[Row]) -> list[Row]:
    """Returns pairs with the three columns that TRL reads (its explicit prompt form)."""
    return [{name: pair[name] for name in ("prompt", "chosen", "rejected")} for pair in pairs]


def _candidates(
    inputs: Mapping[str, Path], unmatched: Counter[str]
) -> Iterator[tuple[list[dict[str, str]], Candidate]]:
    verdicts = {row["sample_id"]: row for _, row in read_rows(inputs["verdicts"])}
    judgements: dict[str, Row] = {}
    if "judgements" in inputs:
        judgements = {row["sample_id"]: row for _, row in read_rows(inputs["judgements"])}
    for place, sample in read_samples(inputs["samples"], _NEEDED):
        verdict = verdicts.get(sample["sample_id"])
        if verdict is None:
            unmatched["no_verdict"] += 1
            continue
        if sample.get("messages") is None:
            unmatched["raw_prompt"] += 1
            continue
        if verdict["task_id"] != sample["task_id"]:
            raise InputError(
                f"{place}: the sample is of task {sample['task_id']}, its verdict of "
                f"{verdict['task_id']}; the tables do not belong together"
            )
        judgement = judgements.get(sample["sample_id"])
        yield (
            sample["messages"],
            Candidate(
                sample_id=sample["sample_id"],
                task_id=sample["task_id"],
                outcome=verdict["outcome"],
                strength=verdict["strength"],
                passed=verdict["passed"] / verdict["total"] if verdict["total"] else 0.0,
                ended=sample["finish_reason"] == "stop",
                text=(sample.get("prefill") or "") + sample["text"],
                code=sample.get("code"),
                n_tokens=sample["n_tokens"],
                verdict_id=verdict["verdict_id"],
                judgement_id=judgement["judgement_id"] if judgement else None,
                score=judgement["score"] if judgement and judgement["status"] == "ok" else None,
            ),
        )


def _matches(
    candidates: list[Candidate], settings: PairSettings, refused: Counter[str]
) -> Iterator[Match]:
    candidates = sorted(candidates, key=lambda c: c.sample_id)
    uses: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    taken = 0
    for rule in settings.rules:
        for match in RULES[rule](candidates, settings.min_judge_margin):
            key = (normal_form(match.chosen.code), normal_form(match.rejected.code))
            ids = (match.chosen.sample_id, match.rejected.sample_id)
            if key[0] == key[1] or key in seen:
                refused["same code"] += 1
            elif match.similarity > settings.max_similarity:
                refused["too similar"] += 1
            elif taken >= settings.per_task:
                refused["enough pairs of the task"] += 1
            elif any(uses[name] >= settings.per_sample for name in ids):
                refused["sample used enough"] += 1
            else:
                seen.add(key)
                uses.update(ids)
                taken += 1
                yield match


def _pair_row(match: Match, prompt: list[dict[str, str]]) -> Row:
    chosen, rejected = match.chosen, match.rejected
    return {
        "pair_id": short_id("p", chosen.sample_id, rejected.sample_id, match.rule),
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": chosen.text}],
        "rejected": [{"role": "assistant", "content": rejected.text}],
        "task_id": chosen.task_id,
        "rule": match.rule,
        "margin": match.margin,
        "similarity": match.similarity,
        "length_delta": chosen.n_tokens - rejected.n_tokens,
        "chosen_sample_id": chosen.sample_id,
        "chosen_verdict_id": chosen.verdict_id,
        "chosen_judgement_id": chosen.judgement_id,
        "rejected_sample_id": rejected.sample_id,
        "rejected_verdict_id": rejected.verdict_id,
        "rejected_judgement_id": rejected.judgement_id,
    }


def _prompt_class(group: list[Candidate]) -> str:
    accepted = sum(candidate.outcome == "accepted" for candidate in group)
    if accepted == len(group):
        return "all accepted"
    return "mixed" if accepted else "none accepted"

"""The entry of the pair stage, and the dataset's plain form for TRL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from align import rows as schemas
from align.artifacts import Row, TableWriter, canonical_json, short_id, write_atomic
from align.errors import InputError
from align.pair_dataset import facts_beside, pair_card
from align.preference.candidates import Candidate, Pool, TaskFacts, read_pool
from align.preference.choosing import Chosen, choose
from align.preference.classes import NOT_EXECUTED
from align.preference.common import RULE as COMMON
from align.preference.common import draw_common
from align.preference.lengths import length_report
from align.preference.yields import Tally, prompt_classes, rules_without_pairs
from align.settings import PairSettings
from align.stage import Context, Output, Summary


def run(
    settings: PairSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Builds preference pairs from `samples`, and `verdicts`, `judgements` and `tasks` where given.

    Of the input `common`, general pairs are mixed in. Writes `pairs`; `chosen`, the same chosen
    answers as rows for supervised training; `tampered`, the samples that forged a result; and a
    data card. Every match that made no pair is counted with its reason, and prompts by what their
    samples did.

    Raises:
        InputError: A table can't be read, or no pair could be built (the message says why).
    """
    pool = read_pool(inputs)
    if not pool.groups:
        raise InputError(
            f"none of the {pool.unmatched.total()} samples of {inputs['samples']} has messages and "
            f"a verdict in {inputs.get('verdicts', 'no table')} ({dict(pool.unmatched)}): give "
            "these samples' verdicts"
        )
    tally = Tally()
    of_judge = facts_beside(inputs.get("judgements"))
    calibration = _figures(of_judge)
    unfit = _below_floors(settings, calibration)
    for rule, reason in unfit.items():
        context.warn(f"{rule} makes no pair: {reason}")
    fit = [rule for rule in settings.rules if rule not in unfit]
    settings = settings.model_copy(update={"rules": fit})
    _warn_of_runs(settings, pool, context)
    found = choose(
        pool.groups, settings, context.seed, tally, lambda task_id: pool.facts(task_id).language
    )
    prompts = prompt_classes(pool.groups.values())
    if not found:
        why = {**rules_without_pairs(settings, pool.groups, tally, ()), **unfit}
        by_rule = ". ".join(f"{rule}: {each}" for rule, each in why.items())
        raise InputError(
            f"no pair could be built from {len(pool.groups)} prompts ({dict(prompts)}; refused: "
            f"{dict(tally.refused)}). {by_rule}. By execution a prompt needs an accepted and a "
            "failing sample: sample more"
        )
    pairs = [_pair_row(each, pool.facts(each.match.chosen.task_id)) for each in found]
    if "common" in inputs:
        share = settings.common_share
        count = round(share / (1 - share) * len(pairs))
        pairs += draw_common(inputs["common"], count, context.seed, tally.refused)
    with out.table("tampered", schemas.TAMPERED, "sample_id") as tampered:
        _write(tampered, pool.tampered)
    with out.table("chosen", schemas.TRAIN_ROW, "row_id") as chosen:
        _write(chosen, map(_train_row, pairs))
    with (
        out.table("pairs", schemas.PAIR, "pair_id") as writer,
        context.progress("pair", len(pairs)) as bar,
    ):
        for row in pairs:
            _write(writer, [row])
            bar.advance()
    made = Counter(row["rule"] for row in pairs)
    lengths = length_report(
        [each.match.chosen.n_tokens - each.match.rejected.n_tokens for each in found]
    )
    details = {
        "prompts": dict(prompts),
        "by_rule": dict(made),
        "by_language": dict(Counter(row["language"] or "unknown" for row in pairs)),
        "negatives": dict(Counter(each.negative for each in found if each.negative)),
        "refused": dict(tally.refused.most_common()),
        "without_pairs": {**rules_without_pairs(settings, pool.groups, tally, made), **unfit},
        "outcomes": dict(Counter(c.outcome for group in pool.groups.values() for c in group)),
        "mean_length_delta": lengths["mean_delta"],
        "lengths": lengths,
        "judge": calibration,
        "judge_kin": of_judge.get("kin"),
        "decontaminated_against": facts_beside(inputs.get("tasks")).get("decontaminated_against"),
    }
    write_atomic(out.path / "README.md", pair_card(pairs, details).encode())
    counts = {"pairs": writer.rows, "prompts": len(pool.groups), **pool.unmatched, **made}
    counts |= {"tampered": tampered.rows} if tampered.rows else {}
    return Summary(content_sha=writer.content_sha(), counts=counts, details=details)


def _write(writer: TableWriter, rows: Iterable[Row]) -> None:
    """Writes the rows that an earlier attempt did not."""
    for row in rows:
        if row[writer.id_column] not in writer.done:
            writer.add(row)


def to_trl(pairs: Iterable[Row]) -> list[Row]:
    """Returns pairs with the three columns that TRL reads (its explicit prompt form)."""
    return [{name: pair[name] for name in ("prompt", "chosen", "rejected")} for pair in pairs]


def _figures(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a judge's calibration is made of: numbers, and tables of numbers."""
    return {
        name: value
        for name, value in facts.items()
        if isinstance(value, int | float | Mapping) and name != "statuses"
    }


def _below_floors(settings: PairSettings, calibration: Mapping[str, Any]) -> dict[str, str]:
    """Returns the rules whose judge is below its floors, with why, in words."""
    found: dict[str, str] = {}
    floors = {
        "judge_within_accepted": settings.judge_within_accepted.floors,
        "judge_open": settings.judge_open.floors,
    }
    for rule, asked in floors.items():
        for name, floor in asked.items() if rule in settings.rules else ():
            value = calibration.get(name)
            if isinstance(value, Mapping):
                value = value.get("value")
            if not isinstance(value, int | float):
                found[rule] = f"the judge's {name} is not known, and its floor is {floor:g}"
            elif value < floor:
                found[rule] = f"the judge's {name} is {value:.3g}, and its floor is {floor:g}"
    return found


def _warn_of_runs(settings: PairSettings, pool: Pool, context: Context) -> None:
    """Says why verdicts of too few runs make no pair."""
    needed = settings.min_runs
    if "efficiency" in settings.rules:
        needed = max(needed, settings.efficiency.min_runs)
    accepted = [c for group in pool.groups.values() for c in group if c.outcome == "accepted"]
    if needed > 1 and accepted and all(len(c.runs) < needed for c in accepted):
        context.warn(
            f"no verdict rests on {needed} runs, as these rules ask: verify with --repeat {needed} "
            f"(verify.repeat: {needed})"
        )


def _pair_row(found: Chosen, task: TaskFacts) -> Row:
    match = found.match
    chosen, rejected = match.chosen, match.rejected
    return {
        "pair_id": short_id("p", chosen.sample_id, rejected.sample_id, match.rule),
        "prompt": rejected.messages,  # a repaired one's own prompt holds the failing attempt
        "chosen": [{"role": "assistant", "content": chosen.text}],
        "rejected": [{"role": "assistant", "content": rejected.text}],
        "task_id": chosen.task_id,
        "language": task.language,
        "licence": task.licence,
        "rule": match.rule,
        "negative": found.negative,
        "margin": match.margin,
        "similarity": match.similarity,
        "length_delta": chosen.n_tokens - rejected.n_tokens,
        **_side("chosen", chosen),
        **_side("rejected", rejected),
    }


def _side(name: str, candidate: Candidate) -> Row:
    executed = candidate.outcome != NOT_EXECUTED
    plain = {
        "sample_id": candidate.sample_id,
        "verdict_id": candidate.verdict_id,
        "judgement_id": candidate.judgement_id,
        "outcome": candidate.outcome,
        "passed": candidate.passed if executed else None,
        "total": candidate.total if executed else None,
        "tokens": candidate.n_tokens,
        "finish_reason": candidate.finish_reason,
        "sum_logprob": candidate.sum_logprob,
        "score": candidate.score,
        "weights_sha": candidate.weights_sha,
    }
    return {f"{name}_{key}": value for key, value in plain.items()}


def _train_row(pair: Row) -> Row:
    """Returns a pair's chosen answer as a row to train on; chosen twice, it is two rows."""
    origin = {
        name: pair[f"chosen_{name}"]
        for name in ("sample_id", "verdict_id", "judgement_id")
        if pair[f"chosen_{name}"]
    }
    return {
        "row_id": f"t-{pair['pair_id'].removeprefix('p-')}",
        "kind": "chat",
        "messages": [*pair["prompt"], *pair["chosen"]],
        "fim": None,
        "weight": 1.0,
        "origin": canonical_json({"pair_id": pair["pair_id"], **origin}),
        "licence": pair["licence"]
        or ("unknown" if pair["rule"] == COMMON else "made by the policy"),
    }

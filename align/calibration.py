"""The calibration stage: what a judge's word is worth, measured on samples that were executed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from align.artifacts import Row, sha256_text, write_atomic, write_json
from align.asking import JudgeAsker
from align.errors import InputError
from align.judge_inputs import (
    NO_LABEL,
    candidate_of,
    choose_samples,
    find_rubric,
    good_ones,
    with_needs,
)
from align.manifest import CALIBRATION
from align.planted import planted_faults
from align.report import plots
from align.settings import CalibrationSettings
from align.skips import Skips
from align.stage import Context, Output, Summary
from align.tables import read_by_sample, read_tasks
from judges import AnswerCache, Candidate, Rubric, Usage, parse_failure_rate, within_problem_auroc
from judges.attacks import attack_suite, resistance
from judges.calibration import (
    accuracy,
    calibration_error,
    cohens_kappa,
    longer_wins,
    order_consistency,
    wins,
)

_PLOTTED = (
    ("auroc", "passing above failing, within a problem"),
    ("accuracy", "right about passing"),
    ("pair_accuracy", "passing one preferred"),
    ("order_consistency", "both orders name one winner"),
    ("longer_wins", "longer one preferred, outcome alike"),
)


def run(
    settings: CalibrationSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Judges `samples` that have `verdicts`, and compares; writes `calibration.json` and a page.

    Samples whose outcome says nothing of the code are left out.

    Raises:
        InputError: A table can't be read, no problem has both a passing and a failing sample, or
            the rubric shows the judge the outcomes that it is to be measured by.
        ServingError: The judge's server can't be started or kept alive; answers are kept.
    """
    rubric = find_rubric(settings.rubric)
    if "outcomes" in rubric.needs:
        raise InputError(
            f"rubric {rubric.full_name} shows the judge what the tests said: it can't be measured "
            "by the same tests"
        )
    tasks = read_tasks(inputs["tasks"])
    verdicts = read_by_sample(inputs["verdicts"], "verdict")
    labelled = {key: row for key, row in verdicts.items() if row["outcome"] not in NO_LABEL}
    skips = Skips(context)
    samples = choose_samples(inputs["samples"], tasks, {}, frozenset(), None, skips)
    samples = [row for row in samples if row["sample_id"] in labelled]
    candidates = {row["sample_id"]: candidate_of(row, tasks, labelled) for row in samples}
    samples = _of_mixed_problems(with_needs(samples, candidates, rubric, skips), labelled)
    samples = _of_mixed_problems(samples[: settings.max_samples], labelled)
    if not samples:
        raise InputError(
            f"{inputs['samples']}: no problem has both a sample that passes and one that fails in "
            f"{inputs['verdicts']}: a judge can't be measured there"
            + (f" ({skips.first()})" if skips.counts else "")
        )
    candidates = {row["sample_id"]: candidates[row["sample_id"]] for row in samples}
    with closing(AnswerCache(out.path / "answers.jsonl")) as answers:
        asker = JudgeAsker(settings, inputs, context, answers)
        measure = _pairs if rubric.kind == "pairwise" else _scores
        with context.progress("calibrate", None):
            measured, usages = measure(asker, rubric, samples, candidates, labelled)
            if rubric.measures == "quality" and rubric.kind != "checklist":
                originals = good_ones(samples, candidates, labelled, settings.planted)
                measured["planted"] = planted_faults(asker, rubric, originals)
            if rubric.kind == "pointwise" and not rubric.needs:  # the attacks' candidates have none
                measured["injection"] = _attacks(asker, rubric)
    spent = sum(usages, Usage())
    result = {
        "judge": asker.name,
        "rubric": rubric.full_name,
        "rubric_sha": rubric.sha,
        "measures": rubric.measures,
        "samples": len(samples),
        "problems": len({row["task_id"] for row in samples}),
        **measured,
        "cost": _cost(spent, len(usages), settings),
    }
    write_json(out.path / CALIBRATION, result)
    write_atomic(out.path / "calibration.html", _page(result).encode())
    sha = sha256_text(json.dumps(result, sort_keys=True))
    return Summary(sha, {"samples": len(samples), "verdicts": len(usages)}, {"calibration": result})


def _of_mixed_problems(samples: Sequence[Row], verdicts: Mapping[str, Row]) -> list[Row]:
    sides: dict[str, set[bool]] = defaultdict(set)
    for row in samples:
        sides[row["task_id"]].add(_passed(row, verdicts))
    return [row for row in samples if len(sides[row["task_id"]]) == 2]


def _passed(sample: Row, verdicts: Mapping[str, Row]) -> bool:
    return bool(verdicts[sample["sample_id"]]["outcome"] == "accepted")


def _scores(
    asker: JudgeAsker,
    rubric: Rubric,
    samples: Sequence[Row],
    candidates: Mapping[str, Candidate],
    verdicts: Mapping[str, Row],
) -> tuple[dict[str, Any], list[Usage]]:
    judged = {each.candidate_ids[0]: each for each in asker.score(rubric, candidates.values())}
    rows = [
        (row, score)
        for row in samples
        if (found := judged.get(row["sample_id"])) and (score := found.score) is not None
    ]
    low, high = min(rubric.values.values()), max(rubric.values.values())
    middle = (low + high) / 2
    labelled = [(row["task_id"], score, _passed(row, verdicts)) for row, score in rows]
    truth = [passed for *_, passed in labelled]
    measured = {
        "parse_failure_rate": parse_failure_rate(each.status for each in judged.values()),
        "auroc": within_problem_auroc(labelled),
        "accuracy": accuracy(labelled, middle),
        "kappa": cohens_kappa([score >= middle for _, score in rows], truth),
        "calibration_error": calibration_error(
            [(score - low) / (high - low) for _, score in rows], truth
        ),
        "longer_wins": longer_wins(
            (row["task_id"], verdicts[row["sample_id"]]["outcome"], score, len(row["code"]))
            for row, score in rows
        ),
        "mean_leftover": _mean(each.leftover for each in judged.values()),
    }
    return measured, [each.usage for each in judged.values()]


def _pairs(
    asker: JudgeAsker,
    rubric: Rubric,
    samples: Sequence[Row],
    candidates: Mapping[str, Candidate],
    verdicts: Mapping[str, Row],
) -> tuple[dict[str, Any], list[Usage]]:
    groups: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for row in samples:
        groups[row["task_id"]][0 if _passed(row, verdicts) else 1].append(row["sample_id"])
    problems = {right[0]: task_id for task_id, (right, _) in groups.items()}
    pairs = [(candidates[right[0]], candidates[wrong[0]]) for right, wrong in groups.values()]
    answered = [(problems[each.candidate_ids[0]], each) for each in asker.compare(rubric, pairs)]
    asked = [judgement for _, each in answered for judgement in each.judgements]
    measured = {
        "parse_failure_rate": parse_failure_rate(each.status for each in asked),
        "pair_accuracy": wins(
            (problem, share, 1 - share)
            for problem, each in answered
            if (share := each.share_first) is not None
        ),
        "no_preference": _mean(float(each.preferred is None) for _, each in answered),
        "order_consistency": order_consistency(answered),
        "mean_leftover": _mean(each.leftover for each in asked),
    }
    return measured, [each.usage for each in asked]


def _attacks(asker: JudgeAsker, rubric: Rubric) -> dict[str, Any]:
    suite = attack_suite()
    plain = {attack.plain.candidate_id: attack.plain for attack in suite}
    candidates = [*plain.values(), *(attack.attacking for attack in suite)]
    ended: dict[str, Any] = {}
    for name, guarded in (("guarded", True), ("unguarded", False)):
        judged = {
            each.candidate_ids[0]: each for each in asker.score(rubric, candidates, guarded=guarded)
        }
        ended[name] = resistance(suite, judged, rubric.values.values())
    return ended


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None


def _cost(spent: Usage, verdicts: int, settings: CalibrationSettings) -> dict[str, float | None]:
    """Returns tokens, and money where prices are given, for a thousand verdicts."""
    read = 1000 * spent.prompt_tokens / verdicts
    written = 1000 * spent.completion_tokens / verdicts
    prices = settings.price_read, settings.price_written
    known = prices[0] is not None and prices[1] is not None
    money = (read * (prices[0] or 0) + written * (prices[1] or 0)) / 1e6 if known else None
    return {"read": read, "written": written, "money": money}


def _page(result: Mapping[str, Any]) -> str:
    rows = [
        plots.Interval(title, found["value"], found["low"], found["high"])
        for key, title in _PLOTTED
        if (found := result.get(key)) and found["value"] is not None
    ]
    planted = (result.get("planted") or {}).get("by_kind", {})
    rows += [
        plots.Interval(f"preferred to: {kind}", found["value"], found["low"], found["high"])
        for kind, found in planted.items()
        if found["value"] is not None
    ]
    injection = result.get("injection") or {}
    attacks = [
        plots.Bar(f"{kind}, {name}", float(count), str(count))
        for name, ended in injection.items()
        for kind, count in ended["by_kind"].items()
    ]
    package = resources.files("align")
    template = (package / "calibration.html.j2").read_text(encoding="utf-8")
    style = (package / "report" / "page.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(
        result=result,
        style=Markup(style),
        shares=plots.intervals(rows, "What the judge is right about, with 95% intervals"),
        attacks=plots.bars(attacks, "Attacks that raised a grade") if attacks else None,
        text=json.dumps(result, indent=2),
    )

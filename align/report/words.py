"""Numbers and findings in words, the same on the page and in the terminal."""

from __future__ import annotations

import re
import unicodedata
from typing import Protocol

from align.report.collect import RunView
from align.report.evaluations import Comparison

BENCHMARKS = {
    "humaneval": "HumanEval",
    "humaneval_infilling": "HumanEval infilling, own lines",
    "humaneval_infilling_single_line": "HumanEval infilling, single line",
    "humaneval_infilling_random_span_light": "HumanEval infilling, random span (light)",
    "held_out": "Held-out tasks",
    "mbpp_validation": "MBPP validation",
}

#: Outcomes from good to bad to "says nothing about the code"; the order of every stacked bar.
OUTCOMES = (
    "accepted",
    "wrong_answer",
    "runtime_error",
    "time_limit",
    "memory_limit",
    "output_limit",
    "compile_error",
    "no_code",
    "tampered",
    "flaky",
    "invalid_task",
    "infra_error",
)

_STRONGEST = "container+ns"
_ISOLATION = {
    "container": "in a container that is recycled after each run, without namespaces of its own",
    "ns": "in namespaces on the host's own kernel, without a container around them",
}


def benchmark_title(name: str) -> str:
    """Returns a benchmark's name for people; `NAME@10` is one measured by 10 answers a problem."""
    plain, _, answers = name.partition("@")
    title = BENCHMARKS.get(plain, plain.replace("_", " "))
    return f"{title}, {answers} answers a problem" if answers else title


#: What is measured at the boundaries of a gap, for people.
BOUNDARIES = {
    "exact_match": "exact",
    "fence_rate": "fence",
    "prose_rate": "prose",
    "suffix_bleed_rate": "copies what follows",
    "runs_on_rate": "runs on",
}


def is_infilling(name: str) -> bool:
    """Tells whether a benchmark asks for what stands in a gap."""
    return name.startswith("humaneval_infilling")


def percent(share: float) -> str:
    """Returns a share as a percentage with one digit after the point."""
    return f"{100 * share:.1f}%"


def points(change: float) -> str:
    """Returns a difference of shares in points, with its sign."""
    text = f"{abs(100 * change):.1f}"
    sign = "±" if text == "0.0" else "+" if change > 0 else "\N{MINUS SIGN}"
    return f"{sign}{text}"


class Bounded(Protocol):
    """Something with an interval."""

    @property
    def low(self) -> float:
        """Its lower end."""

    @property
    def high(self) -> float:
        """Its upper end."""


def interval(bounded: Bounded) -> str:
    """Returns the ends of a score's interval, in percent."""
    return f"{100 * bounded.low:.1f}\N{EN DASH}{100 * bounded.high:.1f}"


def duration(seconds: float) -> str:
    """Returns a time in the two units that fit it."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def finding(comparison: Comparison) -> str:
    """Says honestly what a comparison of the first and the last checkpoint shows."""
    before, after = comparison.before, comparison.after
    asked = (
        f"{before.problems} problems"
        if before.problems == after.problems
        else f"{before.problems} and {after.problems} problems"
    )
    overlap = "overlap" if comparison.overlap else "do not overlap"
    said = [
        (
            f"{benchmark_title(comparison.benchmark)}, {asked}: {percent(before.score)} "
            f"({comparison.first}), {percent(after.score)} ({comparison.last}), "
            f"{points(comparison.change)} points. The 95% intervals {overlap}."
        )
    ]
    if comparison.different:
        names = ", ".join(name.replace("_", " ") for name in comparison.different)
        said.append(f"They were measured with different settings ({names}): compare with care.")
    if comparison.won is None or comparison.lost is None or comparison.p is None:
        said.append("The two were asked no problem in common.")
        if comparison.noise is not None:
            said.append(f"Differences under about {_rounded(comparison.noise)} points are noise.")
        return " ".join(said)
    if comparison.won + comparison.lost == 0:
        said.append("Not one problem changed sides.")
        return " ".join(said)
    on = f" on {comparison.of_sources}" if comparison.of_sources else ""
    said.append(
        f"Problem by problem, {comparison.won} were won and {comparison.lost} lost (exact sign "
        f"test{on}, p = {p_value(comparison.p)})."
    )
    if comparison.interval is not None:
        low, high = map(points, comparison.interval)
        said.append(f"The change's paired 95% interval is {low} to {high} points.")
    if comparison.noise is not None:
        said.append(
            "With so many changing sides, differences under about "
            f"{_rounded(comparison.noise)} points are noise."
        )
    shown = comparison.p < 0.05
    said.append(
        "Chance alone would seldom do this."
        if shown
        else "This does not show that the model changed on it."
    )
    return " ".join(said)


def _rounded(share: float) -> str:
    return f"{max(1, round(100 * share))}"


def p_value(p: float) -> str:
    """Returns a p-value with as many digits as say something."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def cautions(view: RunView) -> list[tuple[str, str]]:
    """Returns what a reader must know before the numbers: (heading, sentence)."""
    found: list[tuple[str, str]] = []

    def caution(heading: str, sentence: str) -> None:
        found.append((heading, sentence))

    if not view.isolation:
        caution("Nothing was executed", "No table of verdicts is there: no label rests on tests.")
    total = sum(view.isolation.values())
    for level, count in sorted(view.isolation.items()):
        if level != _STRONGEST:
            how = _ISOLATION.get(level, "at a level that this report does not know")
            caution(
                f"Weaker isolation: {level}",
                f"{count:,} of {total:,} programs ran {how}. The strongest level is "
                f"{_STRONGEST}; align doctor says what this machine can do.",
            )
    if view.judging and (kin := view.judging.kin):
        caution(
            "The judge is a relative of the policy",
            f"{kin[0].upper()}{kin[1:]}. Models favour answers like their own, so read its "
            "scores, and the pairs that they made, with care.",
        )
    outcomes = view.all_outcomes()
    if faults := outcomes["infra_error"]:
        caution(
            "The sandbox failed at times",
            f"{faults:,} programs got no verdict (infra_error); none of them became a label.",
        )
    if tampered := outcomes["tampered"]:
        caution(
            "Answers tampered with the tests",
            f"{tampered:,} programs forged a result or passed a tripwire; none became a label.",
        )
    if unfinished := [stage for stage in view.stages if not stage.done]:
        names = ", ".join(stage.id for stage in unfinished)
        reasons = "".join(f" {s.id}: {s.failure}." for s in unfinished if s.failure)
        caution("The run is not done", f"Begun and not finished: {names}.{reasons}")
    return found


def visible(text: str, most: int | None = None) -> str:
    r"""Returns text that can be shown: what can't be seen is written out, too much is cut off.

    Control characters and marks that change the direction of writing come out as `\u202e`: in code
    they can make a line look like another one.

    Args:
        text: Anything that a model may have written.
        most: Characters kept; what was cut off is counted at the end.
    """
    cut = 0
    if most is not None and len(text) > most:
        cut = len(text) - most
        text = text[:most]
    text = re.sub(r"\r\n?", "\n", text)
    if not text.isascii() or not text.isprintable():
        text = "".join(_shown(letter) for letter in text)
    return f"{text}\n[… {cut:,} more characters are not shown]" if cut else text


def _shown(letter: str) -> str:
    if letter in "\n\t" or letter.isprintable() or unicodedata.category(letter) == "Zs":
        return letter
    code = ord(letter)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def short(sha: str | None) -> str:
    """Returns the first twelve digits of a hash."""
    return (sha or "none")[:12]


def when(stamp: str) -> str:
    """Returns a manifest's time for people, to the minute."""
    return f"{stamp[:10]} {stamp[11:16]} UTC"

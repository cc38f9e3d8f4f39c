"""The benchmarks: each makes problems, and programs from answers.

What is known of their data stands in `align.benchmark_files`, a card of each in `cards/`.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Mapping

from align.benchmark_files import KNOWN_BENCHMARKS
from align.errors import InputError
from align.evaluation.benchmarks import (
    bigcodebench,
    cruxeval,
    held_out,
    humaneval,
    infilling,
    mbpp,
    plus,
    repair,
)
from align.evaluation.benchmarks.base import Benchmark
from align.sampling.forms import FORMS, Form

Loader = Callable[[str, int | None, Form], Benchmark]

_FAMILIES: Mapping[str, Loader] = {
    "humaneval": humaneval.load,
    "humaneval_plus": plus.load,
    "mbpp": mbpp.load,
    "mbpp_validation": mbpp.load,
    "mbpp_sanitized": mbpp.load,
    "mbpp_plus": plus.load,
    "mbpp_plus_v0.1.0": plus.load,
    "humanevalpack_repair": repair.load,
}
_BY_PREFIX: Mapping[str, Loader] = {
    infilling.NAME: infilling.load,
    "cruxeval": cruxeval.load,
    "bigcodebench": bigcodebench.load,
}


def load(name: str, count: int | None = None, form: Form = FORMS["own"]) -> Benchmark:
    """Returns a benchmark that is known by its name, or a fixed slice of it.

    Raises:
        InputError: It is not known, or its data is not there or not as it should be.
    """
    if name not in KNOWN_BENCHMARKS:
        known = ", ".join((*KNOWN_BENCHMARKS, held_out.NAME))
        raise InputError(f"eval.benchmarks: {name} is not known; known are {known}")
    prefixed = (load for prefix, load in _BY_PREFIX.items() if name.startswith(prefix))
    return (_FAMILIES.get(name) or next(prefixed))(name, count, form)


def card(name: str) -> str:
    """Returns the data card of a benchmark: where it is from, how it is put and run, what changed.

    Raises:
        InputError: It is not known.
    """
    if name not in KNOWN_BENCHMARKS:
        raise InputError(f"{name} is no known benchmark; `align eval ls` lists them")
    folder = importlib.resources.files("align.evaluation.benchmarks") / "cards"
    cards = {each.name.removesuffix(".md"): each for each in folder.iterdir()}
    own = max((key for key in cards if name.startswith(key)), key=len)
    return cards[own].read_text(encoding="utf-8")


def needs_fim(name: str) -> bool:
    """Says whether a benchmark asks for gaps, which a model without FIM tokens can't be put."""
    return name.startswith(infilling.NAME)

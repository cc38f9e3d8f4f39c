"""Evaluation: scores, benchmark problems, and a whole evaluation of a tiny model."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from align.artifacts import Identity, read_shards, write_parquet
from align.benchmark_files import benchmark_rows
from align.errors import ArtifactError, InputError
from align.evaluation import (
    compare_results,
    run,
    wilson_interval,
)
from align.evaluation.benchmarks import held_out, humaneval, infilling, load
from align.evaluation.benchmarks.base import fixed_slice
from align.mbpp import mbpp_task
from align.rows import SAMPLE
from align.sampling.extract import extract_code
from align.sampling.forms import FORMS, QWEN_SYSTEM
from align.serving import Servers
from align.settings import EvalSettings
from align.skips import Skips
from align.stage import Output
from sandbox import Outcome, Sandbox, parse_task
from tests.conftest import RecordingContext
from tests.live import ADD_ONE, IS_EVEN, LiveContext, Proxy
from tests.tiny import build_tiny_model

pytest_plugins = ["tests.live_fixtures"]

# ------------------------------------------------------------------------------- benchmarks


def test_a_slice_is_fixed_in_order_and_part_of_the_larger_one() -> None:
    ids = [f"p{i}" for i in range(50)]
    small, large = fixed_slice(ids, 5, ids), fixed_slice(ids, 20, ids)
    assert small == fixed_slice(ids, 5, ids)
    assert set(small) < set(large) and large == sorted(large, key=ids.index)
    assert small != ids[:5]
    assert fixed_slice(ids, None, ids) == fixed_slice(ids, 99, ids) == ids


def test_humaneval_is_whole_and_its_tasks_are_tasks() -> None:
    benchmark = load("humaneval")
    tasks = [parse_task(problem.task) for problem in benchmark.problems]
    assert len(tasks) == len({task.task_id for task in tasks}) == 164
    assert all(task.tests and task.tests.kind == "script" and task.reference for task in tasks)
    assert len(load("humaneval", 10).problems) == 10


@pytest.mark.parametrize("row", [row for _, row in benchmark_rows("humaneval")][::4])
def test_one_line_is_cut_and_what_was_cut_fits(row: Mapping[str, str]) -> None:
    parts = infilling.cut_line(row["task_id"], row["prompt"], row["canonical_solution"])
    prefix, middle, suffix = parts
    assert "".join(parts) == row["prompt"] + row["canonical_solution"]
    assert middle.strip() and not middle.strip().startswith("#")
    assert "\n" not in middle.rstrip("\n")
    assert prefix.startswith(row["prompt"])
    assert parts == infilling.cut_line(row["task_id"], row["prompt"], row["canonical_solution"])
    assert suffix == "" or prefix.endswith("\n")


PROMPT = (
    "import math\nfrom typing import List\n\n\ndef helper(x):\n    return x\n\n\n"
    'def f(xs: List[int]) -> int:\n    """Doc."""\n'
)


FUTURE = '"""An answer."""\nfrom __future__ import annotations\n'


@pytest.mark.parametrize(
    ("code", "whole"),
    [
        ("def f(xs):\n    return helper(1)", False),
        ("import math\nfrom typing import List\ndef f(xs):\n    return 1", False),
        (FUTURE + "\ndef f(xs: Unknown) -> List[int]:\n    return helper(1)", False),
        (PROMPT + "    return 1", True),
        ("from typing import List\nimport math\nhelper = len\ndef f(xs):\n    return 1", True),
    ],
)
def test_what_the_prompt_defines_is_put_before_an_answer_that_lacks_it(
    code: str, whole: bool
) -> None:
    program = humaneval.whole_program(code, PROMPT, "f")
    assert (program == code) is whole
    assert program.endswith(code.removeprefix(FUTURE))
    names: dict[str, Any] = {}
    exec(compile(program, "program", "exec"), names)  # text of this very test
    assert {"math", "List", "helper", "f"} <= names.keys()


def test_the_chat_prompt_shows_the_function_and_its_own_answer_is_found() -> None:
    message = humaneval.user_message(PROMPT)
    assert PROMPT.rstrip() in message
    assert extract_code(message, "f") == PROMPT.rstrip()


def test_the_published_prompt_begins_the_answer_and_reads_it_from_there(tmp_path: Path) -> None:
    benchmark = load("humaneval", 1, FORMS["qwen"])
    assert benchmark.prompt_form != load("humaneval", 1).prompt_form
    tokenizer: Any = AutoTokenizer.from_pretrained(build_tiny_model(tmp_path))
    (problem,) = benchmark.problems
    prompt = problem.prompt(tokenizer)
    assert "\n```" in prompt.stop
    text = tokenizer.decode(prompt.ids)
    assert f"<|im_start|>system\n{QWEN_SYSTEM}<|im_end|>\n" in text
    assert text.endswith("\n```\n<|im_end|>\n<|im_start|>assistant\n```python\n")
    answer = f"{problem.task['reference']}\n```\nIt is right."
    code = prompt.find_code(answer)
    assert code is not None and code.strip() == problem.task["reference"].strip()


def test_held_out_takes_only_what_is_held_out_and_can_be_run(tmp_path: Path) -> None:
    tests = json.dumps({"kind": "asserts", "asserts": ["assert f(1) == 2"]})
    message = [{"role": "user", "content": "Write f."}]
    tasks = [
        {"task_id": "b", "split": "held_out", "tests": tests, "messages": message},
        {"task_id": "a", "split": "held_out", "tests": tests, "messages": message},
        {"task_id": "c", "split": "train", "tests": tests, "messages": message},
        {"task_id": "d", "split": "held_out", "tests": None, "messages": message},
    ]
    table = tmp_path / "tasks.jsonl"
    table.write_text("".join(json.dumps(task) + "\n" for task in tasks))
    skips = Skips(RecordingContext())
    benchmark = held_out.load(table, None, skips, FORMS["own"])
    assert [p.task["task_id"] for p in benchmark.problems] == ["held_out:a", "held_out:b"]
    assert skips.counts == {"no_tests": 1}
    table.write_text(json.dumps(tasks[2]) + "\n")
    with pytest.raises(InputError, match="holds no task with `split` held_out"):
        held_out.load(table, None, skips, FORMS["own"])


def test_a_held_out_task_is_put_in_a_form_as_its_benchmark_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"task_id": 511, "text": "Add one.", "code": "def f(x):\n    return x + 1"}
    row |= {"test_list": ["assert f(1) == 2"], "test_setup_code": ""}
    task = mbpp_task(row) | {"split": "held_out"}
    task["tests"] = json.dumps(task["tests"])
    table = tmp_path / "held.jsonl"
    table.write_text(json.dumps(task) + "\n" + json.dumps(task | {"task_id": "b", "messages": []}))
    skips = Skips(RecordingContext())
    tokenizer: Any = AutoTokenizer.from_pretrained(build_tiny_model(tmp_path))
    (problem,) = held_out.load(table, None, skips, FORMS["qwen"]).problems
    assert skips.counts == {"not_in_form": 1}
    ours = problem.prompt(tokenizer)
    (tmp_path / "mbpp").mkdir()
    (tmp_path / "mbpp" / "mbpp_validation.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.setenv("ALIGN_DATA", str(tmp_path))
    (theirs,) = load("mbpp_validation", None, FORMS["qwen"]).problems
    assert ours.ids == theirs.prompt(tokenizer).ids
    assert ours.stop == FORMS["qwen"].stop
    raw = {"task_id": "r", "split": "held_out", "tests": task["tests"], "prompt": "def f(x):\n"}
    table.write_text(json.dumps(raw) + "\n")
    with pytest.raises(InputError, match="task r can't be asked by qwen"):
        held_out.load(table, None, Skips(RecordingContext()), FORMS["qwen"])
    (problem,) = held_out.load(table, None, skips, FORMS["raw"]).problems
    assert tokenizer.decode(problem.prompt(tokenizer).ids) == "def f(x):\n"


@pytest.mark.parametrize(
    ("kind", "file", "most"),
    [
        ("single_line", "SingleLineInfilling", 128),
        ("multi_line", "MultiLineInfilling", 512),
        ("random_span", "RandomSpanInfilling", 512),
        ("random_span_light", "RandomSpanInfillingLight", 512),
    ],
)
def test_long_gaps_have_room_for_their_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, file: str, most: int
) -> None:
    row = {"task_id": "1", "prompt": "def f():\n", "canonical_solution": "    return 1\n"}
    row |= {"suffix": "", "test": "def check(f):\n    assert f() == 1\n", "entry_point": "f"}
    folder = tmp_path / "humaneval_infilling"
    folder.mkdir()
    with gzip.open(folder / f"HumanEval-{file}.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write(json.dumps(row))
    monkeypatch.setenv("ALIGN_DATA", str(tmp_path))
    assert load(f"{infilling.NAME}_{kind}").max_tokens == most


def test_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    settings = EvalSettings(benchmarks={"humanevil": 3})
    out = Output(tmp_path, Identity("eval.start", "c"))
    with pytest.raises(InputError, match=r"humanevil is not known; known are humaneval, "):
        run(settings, {"model": tmp_path}, out, RecordingContext())


@pytest.mark.engine
def test_programs_with_a_line_of_their_solution_missing_are_not_accepted() -> None:
    problems = load(infilling.NAME, 12).problems
    rows = {f"{infilling.NAME}:{row['task_id']}": row for _, row in benchmark_rows("humaneval")}
    work = []
    for problem in problems:
        row = rows[problem.task["task_id"]]
        prefix, middle, suffix = infilling.cut_line(
            row["task_id"], row["prompt"], row["canonical_solution"]
        )
        indent = middle[: len(middle) - len(middle.lstrip())]
        task = parse_task(problem.task)
        work.append((True, task, prefix + middle + suffix))
        work.append((False, task, f"{prefix}{indent}raise ValueError\n{suffix}"))
    with Sandbox(engine="namespaces", isolation="ns", workers=2) as box:
        found = [(right, verdict.accepted) for right, verdict in box.run_many(work)]
    assert [accepted for right, accepted in found if right] == [True] * 12
    assert sum(accepted for right, accepted in found if not right) == 0


# ------------------------------------------------------------------------ a whole evaluation


def calls(*cases: tuple[int, Any]) -> str:
    plain = [{"args": [given], "expected": expected} for given, expected in cases]
    return json.dumps({"kind": "calls", "cases": plain})


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    rows = [
        {
            "task_id": "add_one",
            "messages": [{"role": "user", "content": ADD_ONE}],
            "entry_point": "add_one",
            "tests": calls((1, 2), (-1, 0)),
            "reference": "def add_one(x):\n    return x + 1",
        },
        {
            "task_id": "is_even",
            "messages": [{"role": "user", "content": IS_EVEN}],
            "entry_point": "is_even",
            "tests": calls((1, False), (2, True)),
            "reference": "def is_even(number):\n    return number % 2 == 0",
        },
    ]
    table = tmp_path / "held_out.jsonl"
    table.write_text("".join(json.dumps({**row, "split": "held_out"}) + "\n" for row in rows))
    return table


def evaluation_output(folder: Path) -> Output:
    folder.mkdir(exist_ok=True)
    return Output(folder, Identity("eval.start", "config"))


class FaultyBox:
    """A sandbox whose first runs of answers fail, as on a machine that is out of memory."""

    def __init__(self, box: Sandbox, faults: int) -> None:
        self._box = box
        self.faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._box, name)

    def run_many(self, jobs: Any) -> Any:
        for key, verdict in self._box.run_many(jobs):
            if isinstance(key, dict) and self.faults:
                self.faults -= 1
                verdict = dataclasses.replace(verdict, outcome=Outcome.INFRA_ERROR, detail="full")
            yield key, verdict


class FaultyContext(RecordingContext):
    """A context with such a sandbox."""

    def __init__(self, faults: int) -> None:
        super().__init__()
        self.faults = faults

    @contextmanager
    def sandbox(self) -> Iterator[Any]:
        with Sandbox(engine="namespaces", isolation="ns", workers=2) as box:
            faulty = FaultyBox(box, self.faults)
            yield faulty
            self.faults = faulty.faults


def test_what_the_sandbox_failed_is_run_again_by_the_next_command(
    tmp_path: Path, tasks: Path
) -> None:
    text = "```python\ndef add_one(x):\n    return x + 1\n```"
    row = dict.fromkeys(SAMPLE.names) | {"text": text, "finish_reason": "stop", "n_tokens": 9}
    row |= {"policy": {"model": "m"}, "sampler": {"max_tokens": 9, "engine": "e", "stop": []}}
    rows = [
        {**row, "sample_id": f"s{index}", "task_id": f"held_out:{name}", "sample_index": 0}
        for index, name in enumerate(("add_one", "is_even"))
    ]
    write_parquet(tmp_path / "samples.parquet", rows, SAMPLE)
    inputs = {"samples": tmp_path / "samples.parquet", "held_out": tasks}
    settings = EvalSettings(benchmarks={"held_out": None})
    out = evaluation_output(tmp_path / "out")
    with pytest.raises(
        ArtifactError, match=r"held_out: 2 of 2 runs failed .*\(full\).*run the same"
    ):
        run(settings, inputs, out, FaultyContext(4))
    assert not list((tmp_path / "out" / "verdicts").glob("shard-*"))
    summary = run(settings, inputs, out, FaultyContext(0))
    assert (summary.counts["held_out_n"], summary.counts["held_out_passed"]) == (2, 1)


@pytest.mark.vllm
@pytest.mark.engine
def test_an_evaluation_says_what_the_model_solves_and_under_which_conditions(
    tmp_path: Path, tasks: Path, model_folder: Path, live_servers: Servers
) -> None:
    settings = EvalSettings(
        benchmarks={"held_out": None, "humaneval": 2, "humaneval_infilling": 2}, max_tokens=60
    )
    inputs = {"model": model_folder, "held_out": tasks}
    with Proxy(live_servers) as proxy:
        out = evaluation_output(tmp_path / "out")
        summary = run(settings, inputs, out, LiveContext(proxy))
        assert proxy.asked == 6
        again = run(settings, inputs, out, LiveContext(proxy))
        assert proxy.asked == 6  # nothing is asked twice
    assert again.content_sha == summary.content_sha

    result = json.loads((tmp_path / "out" / "result.json").read_text())
    own = result["benchmarks"]["held_out"]
    assert own["problems"] == {
        "held_out:add_one": "accepted",
        "held_out:is_even": "wrong_answer",
    }
    assert (own["n"], own["passed"], own["pass@1"], own["stop_rate"]) == (2, 1, 0.5, 1.0)
    assert own["interval"] == pytest.approx(wilson_interval(1, 2))
    for name in ("prompt_form", "template_sha", "extractor", "max_tokens", "engine", "data_sha"):
        assert own["settings"][name], name
    for name in ("sandbox", "isolation", "image", "weights_sha"):
        assert own["settings"][name], name
    assert result["benchmarks"]["humaneval"]["n"] == 2
    assert result["benchmarks"]["humaneval_infilling"]["settings"]["max_tokens"] == 60
    assert summary.counts["held_out_passed"] == 1
    samples = {row["sample_id"]: row for row in read_shards(tmp_path / "out" / "samples")}
    verdicts = list(read_shards(tmp_path / "out" / "verdicts"))
    assert {row["sample_id"] for row in verdicts} == samples.keys()
    assert len({row["verdict_id"] for row in verdicts}) == 6
    assert compare_results([result], [result], ["held_out"]).p_value == 1.0


@pytest.mark.engine
def test_a_reference_that_fails_ends_the_evaluation_before_the_model_is_asked(
    tmp_path: Path, tasks: Path, model_folder: Path
) -> None:
    class NoServers:
        dtype = None

        def model(self, folder: Path) -> str:
            raise AssertionError("nothing may be asked")

        def stop(self) -> None:
            pass

    text = tasks.read_text()
    tasks.write_text(text.replace("return x + 1", "return x + 2"))
    with pytest.raises(
        ArtifactError, match=r"1 of 2 reference solutions pass.*held_out:add_one \("
    ):
        run(
            EvalSettings(benchmarks={"held_out": None}),
            {"model": model_folder, "held_out": tasks},
            evaluation_output(tmp_path / "out"),
            LiveContext(NoServers()),
        )

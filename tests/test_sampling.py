"""The sample stage against a real server: what is kept, what is sent, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.artifacts import Identity, Row, TableWriter, read_shards
from align.chat import encode_prompt
from align.completions import clean_text
from align.errors import InputError, ServingError
from align.sampling import run
from align.sampling.forms import FORMS, QWEN_SYSTEM, conversation
from align.sampling.samples import answer_seed
from align.sampling.stage import choose_tasks
from align.serving import Servers
from align.settings import SampleSettings
from align.stage import Output, Summary
from tests.conftest import RecordingContext
from tests.live import ADD_ONE, IS_EVEN, LiveContext, Proxy

pytest_plugins = ["tests.live_fixtures"]

Sample = Callable[..., Summary]


def write_tasks(path: Path, tasks: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(task) + "\n" for task in tasks))
    return path


def task(task_id: str, content: str = ADD_ONE, **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": content}
    return {"task_id": task_id, "messages": [message], "entry_point": "add_one", **more}


def stage_output(folder: Path) -> Output:
    folder.mkdir(exist_ok=True, parents=True)
    return Output(folder, Identity("sample.r1", "config"))


def rows_of(folder: Path) -> list[Row]:
    rows = read_shards(folder / "samples")
    return sorted(rows, key=lambda row: (row["task_id"], row["sample_index"]))


# ---------------------------------------------------------------------- refused before a server


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "holds no task to sample"),
        ([task("a", split="held_out")], "task a is held out for evaluation"),
        ([task("a"), task("b"), task("a")], r"tasks.jsonl:3: task a stands already at .*:1"),
        ([{"messages": []}], r"tasks.jsonl:1: a task needs a task_id"),
    ],
)
def test_tasks_that_cannot_be_used_are_named(
    tmp_path: Path, tasks: list[dict[str, Any]], message: str
) -> None:
    inputs = {"tasks": write_tasks(tmp_path / "tasks.jsonl", tasks), "model": tmp_path}
    with pytest.raises(InputError, match=message):
        run(SampleSettings(), inputs, stage_output(tmp_path / "out"), RecordingContext())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"task_id": "b"}, "task b needs messages or a prompt"),
        ({"task_id": "b", "messages": [{"role": "user"}]}, "task b: bad messages"),
        ({"task_id": "b", "messages": [{"role": "tool", "content": ""}]}, "task b: bad messages"),
    ],
)
def test_a_task_that_cannot_be_put_is_named(
    tmp_path: Path, model_folder: Path, broken: dict[str, Any], message: str
) -> None:
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), broken])
    inputs = {"tasks": tasks, "model": model_folder}
    with pytest.raises(InputError, match=f"jsonl:2: {message}"):
        run(SampleSettings(), inputs, stage_output(tmp_path / "out"), RecordingContext())


def test_a_prompt_with_words_of_its_own_takes_no_instruction() -> None:
    with pytest.raises(ValueError, match="prompt: qwen has words of its own"):
        SampleSettings(prompt="qwen", instruction="Be brief.")


def test_each_sampling_of_a_run_draws_other_tasks() -> None:
    ids = [f"t{number}" for number in range(40)]
    fine, again, later = (choose_tasks(ids, 10, draw) for draw in ("0:fine", "0:fine", "0:r1"))
    assert fine == again == sorted(fine) and len(fine) == 10
    assert len(set(fine) & set(later)) < 10
    assert choose_tasks(ids, None, "0:fine") == sorted(ids)


def test_seeds_have_31_bits_and_differ() -> None:
    seeds = {
        answer_seed(run_seed, instance, task_id, index)
        for run_seed in (0, 1)
        for instance in ("sample.fine", "sample.r1")
        for task_id in ("a", "b")
        for index in range(8)
    }
    assert len(seeds) == 64
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_lone_surrogates_are_replaced_and_pairs_are_kept() -> None:
    assert clean_text("a\ud800b\U0001f600") == "a\ufffdb\U0001f600"
    assert clean_text("\ud83d\ude00") == "\U0001f600"


# ------------------------------------------------------------------------------ real servers


@pytest.mark.vllm
def test_samples_hold_what_was_asked_and_what_was_answered(
    tmp_path: Path, model_folder: Path, live_servers: Servers
) -> None:
    tasks = [
        task("good"),
        task("bad", IS_EVEN),
        task("secret", split="held_out"),
        task("long", "word " * 2000),
        task("odd", "caf\ud800\u00e9 \U0001f600"),
        {"task_id": "raw", "prompt": "def add_one(x):\n"},
    ]
    inputs = {"tasks": write_tasks(tmp_path / "tasks.jsonl", tasks), "model": model_folder}
    context = LiveContext(live_servers)
    settings = SampleSettings(n=3, temperature=[1.0, 0.5], max_tokens=40)
    summary = run(settings, inputs, stage_output(tmp_path / "out"), context)

    rows = rows_of(tmp_path / "out")
    assert [(row["task_id"], row["sample_index"]) for row in rows] == [
        (task_id, index) for task_id in ("bad", "good", "odd", "raw") for index in range(3)
    ]
    assert len({row["sample_id"] for row in rows}) == 12
    assert len({row["sampler"]["seed"] for row in rows}) == 12
    assert summary.counts["samples"] == 12
    assert summary.counts["prompt_too_long"] == 1
    assert summary.counts["held_out"] == 1
    assert summary.counts["with_code"] == sum(row["code"] is not None for row in rows)
    finished = {key: value for key, value in summary.counts.items() if key.startswith("finish_")}
    assert sum(finished.values()) == 12
    assert ("skip", "prompt_too_long") in {(e, f.get("kind")) for e, f in context.events}
    for row in rows:
        assert row["n_tokens"] == len(row["token_ids"]) <= 40
        assert row["finish_reason"] in ("stop", "length")
        assert row["sampler"]["temperature"] == (1.0, 0.5)[row["sample_index"] % 2]
        assert row["policy"]["weights_sha"] and row["sampler"]["engine"].startswith("vllm 0.")
    good = [row for row in rows if row["task_id"] == "good"]
    assert "def add_one(x):\n    return x + 1" in {row["code"] for row in good}
    assert "<|im_end|>" not in "".join(row["text"] for row in good)


@pytest.mark.vllm
def test_a_task_is_asked_by_the_prompt_of_an_evaluation(
    tmp_path: Path, model_folder: Path, live_servers: Servers
) -> None:
    tasks = [task("a"), task("b", 'Say """.'), task("c", "caf\ud800")]
    inputs = {"tasks": write_tasks(tmp_path / "tasks.jsonl", tasks), "model": model_folder}
    settings = SampleSettings(n=2, temperature=1.0, max_tokens=12, prompt="qwen")
    summary = run(settings, inputs, stage_output(tmp_path / "out"), LiveContext(live_servers))
    assert summary.counts["not_in_form"] == 1
    rows = rows_of(tmp_path / "out")
    assert [row["task_id"] for row in rows] == ["a", "a", "c", "c"]
    for row in rows:
        assert [message["role"] for message in row["messages"]] == ["system", "user"]
        assert row["messages"][0]["content"] == QWEN_SYSTEM
        assert row["prefill"] == "```python\n"
        assert row["sampler"]["stop"] == list(FORMS["qwen"].stop)
    asked = rows[0]["messages"][1]["content"]
    assert asked == conversation("qwen", f'"""\n{ADD_ONE}\n"""\n', "")[1]["content"]


@pytest.mark.vllm
def test_the_log_prob_is_that_of_the_model(
    tmp_path: Path, model_folder: Path, live_servers: Servers
) -> None:
    inputs = {
        "tasks": write_tasks(tmp_path / "tasks.jsonl", [task("a"), task("b", "Something else.")]),
        "model": model_folder,
    }
    settings = SampleSettings(n=2, temperature=0.7, max_tokens=24, instruction="Be brief.")
    run(settings, inputs, stage_output(tmp_path / "out"), LiveContext(live_servers))
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    for row in rows_of(tmp_path / "out"):
        assert row["messages"][-1]["content"].endswith("\n\nBe brief.")
        prompt = encode_prompt(tokenizer, row["messages"])
        ids_T = torch.tensor(prompt + row["token_ids"])
        with torch.no_grad():
            logps_TV = model(ids_T[None]).logits[0].log_softmax(-1)
        answer_T = torch.arange(len(prompt), len(ids_T))
        expected = logps_TV[answer_T - 1, ids_T[answer_T]].sum().item()
        assert row["sum_logprob"] == pytest.approx(expected, abs=0.02)


@pytest.mark.vllm
def test_the_same_seed_gives_the_same_answers_and_another_one_others(
    tmp_path: Path, model_folder: Path, live_servers: Servers
) -> None:
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task(f"t{i}", f"Task {i}") for i in range(4)])
    settings = SampleSettings(n=2, temperature=1.0, max_tokens=24)
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = stage_output(tmp_path / name)
        summary = run(
            settings, {"tasks": tasks, "model": model_folder}, out, LiveContext(live_servers, seed)
        )
        rows = rows_of(tmp_path / name)
        found.append(([row["text"] for row in rows], {row["sample_id"] for row in rows}, summary))
    assert found[0][:2] == found[1][:2]
    assert found[0][0] != found[2][0]
    assert not found[0][1] & found[2][1]
    assert len(set(found[0][0])) > 1


@pytest.mark.vllm
def test_many_seeded_prompts_at_once_do_not_end_the_engine(
    tmp_path: Path, model_folder: Path, live_servers: Servers
) -> None:
    # More prompt tokens than one step takes: vLLM's CPU engine dies of a seeded prompt cut in two.
    tasks = [task(f"t{i}", f"Task {i}: " + f"word{i} " * 45) for i in range(40)]
    inputs = {"tasks": write_tasks(tmp_path / "tasks.jsonl", tasks), "model": model_folder}
    with Proxy(live_servers) as proxy:
        settings = SampleSettings(n=1, temperature=0.8, max_tokens=4, concurrency=40)
        run(settings, inputs, stage_output(tmp_path / "out"), LiveContext(proxy))
        assert (proxy.asked, proxy.answered) == (40, 40)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    rows = rows_of(tmp_path / "out")
    lengths = [len(encode_prompt(tokenizer, row["messages"])) for row in rows]
    assert sum(lengths) > 4096


@pytest.mark.vllm
def test_what_was_answered_before_a_crash_is_never_sent_again(
    tmp_path: Path, model_folder: Path, live_servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task(f"t{i}", f"Task {i}") for i in range(6)])
    inputs = {"tasks": tasks, "model": model_folder}
    settings = SampleSettings(n=4, temperature=1.0, max_tokens=16, concurrency=1)
    whole = run(settings, inputs, stage_output(tmp_path / "whole"), LiveContext(live_servers))

    add = TableWriter.add

    def crash(self: TableWriter, row: Mapping[str, Any]) -> None:
        add(self, row)
        if len(self.done) == 9:
            raise KeyboardInterrupt

    with Proxy(live_servers) as proxy:
        context = LiveContext(proxy)
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(TableWriter, "add", crash)
            run(settings, inputs, stage_output(tmp_path / "out"), context)
        assert proxy.asked == 9
        summary = run(settings, inputs, stage_output(tmp_path / "out"), context)
        assert proxy.asked == 24
        again = run(settings, inputs, stage_output(tmp_path / "out"), context)
        assert proxy.asked == 24
    assert summary.content_sha == again.content_sha == whole.content_sha
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "whole")


@pytest.mark.vllm
def test_a_lost_request_is_sent_again_and_a_refused_one_is_an_error(
    tmp_path: Path, model_folder: Path, live_servers: Servers
) -> None:
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task(f"t{i}", f"Task {i}") for i in range(4)])
    inputs = {"tasks": tasks, "model": model_folder}
    settings = SampleSettings(n=2, max_tokens=8, concurrency=4)
    with Proxy(live_servers) as proxy:
        proxy.drop = 3
        run(settings, inputs, stage_output(tmp_path / "lost"), LiveContext(proxy))
        assert (proxy.asked, proxy.answered) == (11, 8)
        assert len(rows_of(tmp_path / "lost")) == 8

        proxy.asked, proxy.refuse = 0, 1
        with pytest.raises(ServingError, match=r"status 400: .*top_p"):
            run(settings, inputs, stage_output(tmp_path / "refused"), LiveContext(proxy))
        assert proxy.asked <= 8


@pytest.mark.vllm
def test_a_request_that_never_gets_through_ends_the_stage(
    tmp_path: Path, model_folder: Path, live_servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("align.completions._BACKOFF_S", 0.01)
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a")])
    inputs = {"tasks": tasks, "model": model_folder}
    with Proxy(live_servers) as proxy:
        proxy.drop = 100
        with pytest.raises(ServingError, match="failed 4 times"):
            run(SampleSettings(n=1), inputs, stage_output(tmp_path / "out"), LiveContext(proxy))
        assert proxy.asked == 4

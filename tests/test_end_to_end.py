"""The whole run with a tiny model: every stage real, then again with a kill in five of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from align.artifacts import table_hash
from align.tables import read_rows
from tests.tiny import build_tiny_model

KILLED_IN = ["data", "sample.fine", "verify.r1", "judge.r1", "pair.r1"]
TABLES = {
    "data": ["rows", "tasks", "held_out"],
    "eval.start": ["samples", "verdicts"],
    "sample.fine": ["samples"],
    "verify.fine": ["verdicts"],
    "judge.fine": ["judgements"],
    "select.fine": ["rows"],
    "fim": ["rows"],
    "sample.r1": ["samples"],
    "verify.r1": ["verdicts"],
    "judge.r1": ["judgements"],
    "pair.r1": ["pairs"],
    "eval.dpo": ["samples", "verdicts"],
}
RECIPE = """
name: {name}
model: {model}
shards: {{rows: 2, seconds: 600}}
# One request at a time, in full precision, with nothing kept from the ones before: the same numbers
# whatever else was asked, so that a run that was cut can be compared with one that was not.
serving:
  dtype: float32
  max_num_seqs: 1
  max_model_len: 4096
  kv_cache_gib: 0.25
  prefix_caching: false
data: {{rows: [{data}/rows.jsonl], tasks: [{data}/tasks.jsonl], held_out: 0.2}}
sft:
  coarse: {{learning_rate: 1.0e-4, batch_rows: 2, dtype: float32}}
  fine: {{learning_rate: 1.0e-4, batch_rows: 2, dtype: float32}}
  mixed: {{mix: {{fine: 0.5, fim: 0.5}}, max_rows: 8, batch_rows: 2, dtype: float32}}
fim: {{corpus: [{data}/source], licences: [NOASSERTION], rows: 6,
  max_middle_tokens: 20, max_context_tokens: 60}}
sample:
  fine: {{n: 3, temperature: 0.8, max_tokens: 48}}
  round: {{n: 4, temperature: 1.0, max_tokens: 48}}
judge: {{rationale_tokens: 8, max_samples: 8, planted: 1}}
pair: {{per_task: 2}}
dpo: {{batch_pairs: 1, accumulate: 1, max_pairs: 6, dtype: float32}}
eval:
  benchmarks: {{humaneval: 3, humaneval_infilling: 2, held_out: null}}
  checkpoints: [start, dpo]
  max_tokens: 32
export: {{}}
"""


def prompt_of(number: int) -> str:
    return f"Write a Python function `plus_{number}(x)` that returns x plus {number}."


def answer_of(number: int, sign: str) -> str:
    return f"```python\ndef plus_{number}(x):\n    return x {sign} {number}\n```"


def gap_of(number: int) -> str:
    """A gap of another function: it must not teach the model which of its answers is right."""
    return f"def times_{number}(x):\n    return"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a tiny model that answers right in about every second sample."""
    folder = tmp_path_factory.mktemp("world")
    data = folder / "data"
    (data / "source").mkdir(parents=True)
    tasks, rows, pairs, gaps = [], [], [], []
    for number in range(12):
        pairs += [(prompt_of(number), answer_of(number, sign)) for sign in "+-"]
        gaps.append((gap_of(number), f" x * {number}", "\n"))
        cases = [{"args": [x], "expected": x + number} for x in (0, 1, -3)]
        cases[0]["args"], cases[0]["expected"] = [7], 7 + number
        messages = [{"role": "user", "content": prompt_of(number)}]
        tasks.append(
            {
                "task_id": f"tiny/{number}",
                "messages": messages,
                "entry_point": f"plus_{number}",
                "tests": {"kind": "calls", "cases": cases},
                "reference": f"def plus_{number}(x):\n    return x + {number}\n",
            }
        )
        answer = {"role": "assistant", "content": answer_of(number, "+")}
        rows.append({"messages": [*messages, answer], "licence": "Apache-2.0"})
    # Nothing can say by running it whether an answer to this one is right: the judge has to choose.
    tasks[0] = {"task_id": "tiny/open", "messages": tasks[0]["messages"]}
    for name, content in (("tasks", tasks), ("rows", rows)):
        text = "".join(json.dumps(row) + "\n" for row in content)
        (data / f"{name}.jsonl").write_text(text, encoding="utf-8")
    source = "".join(f"def f{n}(x):\n    y = x * {n}\n    return y + {n}\n\n\n" for n in range(20))
    (data / "source" / "functions.py").write_text(source, encoding="utf-8")
    build_tiny_model(folder / "model", train_on=pairs, gaps=gaps, steps=1000)
    return folder


def recipe(world: Path, name: str) -> Path:
    path = world / f"{name}.yaml"
    text = RECIPE.format(name=name, model=world / "model", data=world / "data")
    path.write_text(text, encoding="utf-8")
    return path


def align(world: Path, name: str, victim: str) -> subprocess.CompletedProcess[str]:
    """Runs `align run` in a process group of its own."""
    script = Path(__file__).parent / "kill_at_shard.py"
    command = [sys.executable, str(script), str(world / f"{name}.sent"), victim]
    command += ["run", str(recipe(world, name)), "--runs", str(world / "runs")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run(
        command,
        start_new_session=True,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def whole(world: Path) -> Path:
    """The folder of a run that nobody interrupted."""
    done = align(world, "whole", "-")
    assert done.returncode == 0, done.stdout + done.stderr
    return world / "runs" / "whole"


@pytest.fixture(scope="module")
def cut(world: Path, whole: Path) -> Path:
    """The folder of a run that was killed between two shards of one stage after the other."""
    del whole  # one at a time: two servers do not fit beside each other
    for victim in KILLED_IN:
        done = align(world, "cut", victim)
        assert done.returncode == -signal.SIGKILL, f"{victim}: {done.stdout}{done.stderr}"
        assert not (world / "runs" / "cut" / victim / "manifest.json").exists()
    done = align(world, "cut", "-")
    assert done.returncode == 0, done.stdout + done.stderr
    return world / "runs" / "cut"


def session(leader: int) -> list[str]:
    """Returns the command lines of the living processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(words)
    return found


def manifest(run: Path, instance: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / instance / "manifest.json").read_text())
    return content


@pytest.mark.vllm
@pytest.mark.slow
class TestWholeRun:
    def test_every_stage_is_done_and_counted(self, whole: Path) -> None:
        for instance, tables in TABLES.items():
            assert manifest(whole, instance)["counts"], instance
            for table in tables:
                assert any(True for _ in read_rows(whole / instance / table)), f"{instance} {table}"
        assert (whole / "report.html").stat().st_size > 10_000

    def test_labels_come_from_running_the_code(self, whole: Path) -> None:
        codes = {row["sample_id"]: row for _, row in read_rows(whole / "sample.r1" / "samples")}
        seen = Counter()
        for _, verdict in read_rows(whole / "verify.r1" / "verdicts"):
            sample = codes[verdict["sample_id"]]
            number = sample["task_id"].split("/")[1]
            right = f"def plus_{number}(x):\n    return x + {number}"
            if verdict["outcome"] == "accepted":
                seen["accepted"] += 1
            elif sample["code"] is not None and sample["code"].strip() == right:
                raise AssertionError(f"a right answer got {verdict}")
            else:
                seen["refused"] += 1
        assert min(seen["accepted"], seen["refused"]) > 3, seen

    def test_the_judge_scored_what_it_read(self, whole: Path) -> None:
        judged = [row for _, row in read_rows(whole / "judge.r1" / "judgements")]
        assert Counter(row["status"] for row in judged) == {"ok": 8}
        assert all(1 <= row["score"] <= 5 for row in judged)

    def test_of_open_tasks_the_fine_rows_are_chosen_by_the_judge(self, whole: Path) -> None:
        judged = [row for _, row in read_rows(whole / "judge.fine" / "judgements")]
        assert {row["task_id"] for row in judged} == {"tiny/open"}
        assert manifest(whole, "select.fine")["counts"]["chosen_by_judge"] == 1
        rows = [row for _, row in read_rows(whole / "select.fine" / "rows")]
        origins = [json.loads(row["origin"]) for row in rows]
        cited = [each["judgement_id"] for each in origins if "judgement_id" in each]
        assert len(cited) == 1
        assert cited[0] in {row["judgement_id"] for row in judged}

    def test_pairs_point_from_refused_to_accepted(self, whole: Path) -> None:
        outcomes = {
            row["verdict_id"]: row["outcome"] for _, row in read_rows(whole / "verify.r1/verdicts")
        }
        pairs = [row for _, row in read_rows(whole / "pair.r1" / "pairs")]
        assert pairs
        for pair in pairs:
            assert outcomes[pair["chosen_verdict_id"]] == "accepted"
            if pair["rule"] == "exec_strict":
                assert outcomes[pair["rejected_verdict_id"]] != "accepted"

    def test_a_second_command_has_nothing_to_do(self, world: Path, whole: Path) -> None:
        before = (whole / "report.html").stat().st_mtime_ns
        done = align(world, "whole", "-")
        assert done.returncode == 0, done.stderr
        assert (whole / "report.html").stat().st_mtime_ns == before

    def test_the_exported_model_answers_and_stops(self, whole: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = whole / "export" / "model"
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt_of(3)}], add_generation_prompt=True, tokenize=False
        )
        gap = f"<|fim_prefix|>{gap_of(3)}<|fim_suffix|>\n<|fim_middle|>"
        for prompt, words in ((chat, "def plus_"), (gap, "x")):
            ids = tokenizer(prompt, return_tensors="pt")
            with torch.no_grad():
                output = model.generate(**ids, max_new_tokens=64, do_sample=False)
            answer = output[0, ids["input_ids"].shape[1] :]
            assert len(answer) < 64, tokenizer.decode(answer)
            assert words in tokenizer.decode(answer)

    @pytest.mark.parametrize("instance", TABLES)
    def test_a_killed_run_ends_in_the_same_rows(
        self, whole: Path, cut: Path, instance: str
    ) -> None:
        for table in TABLES[instance]:
            first = [row for _, row in read_rows(whole / instance / table)]
            second = [row for _, row in read_rows(cut / instance / table)]
            assert len(second) == len(first), table
            assert table_hash(second) == table_hash(first), table
        assert manifest(cut, instance)["counts"] == manifest(whole, instance)["counts"]
        assert manifest(cut, instance)["content_sha"] == manifest(whole, instance)["content_sha"]

    @pytest.mark.parametrize("instance", ["sft.coarse", "sft.fine", "sft.mixed", "dpo.r1"])
    def test_a_killed_run_ends_in_the_same_weights(
        self, whole: Path, cut: Path, instance: str
    ) -> None:
        assert manifest(cut, instance)["content_sha"] == manifest(whole, instance)["content_sha"]

    def test_ctrl_c_ends_everything_within_five_seconds(self, world: Path, cut: Path) -> None:
        del cut  # one at a time
        command = [sys.executable, "-m", "align.cli", "run", str(recipe(world, "stopped"))]
        process = subprocess.Popen(
            [*command, "--runs", str(world / "runs")],
            start_new_session=True,
            # Tests that run in the background ignore Ctrl-C, and what they start would, too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            deadline = time.monotonic() + 180
            while not any("EngineCore" in name for name in session(process.pid)):
                assert process.poll() is None
                assert time.monotonic() < deadline, "no server was started"
                time.sleep(0.2)
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=5)
            assert process.returncode == 130
            assert "stopped; give the same command to go on" in said
            assert session(process.pid) == []
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def test_no_answered_request_was_sent_again(self, world: Path, whole: Path, cut: Path) -> None:
        del whole, cut
        lines = Counter((world / "cut.sent").read_text(encoding="utf-8").splitlines())
        once = Counter((world / "whole.sent").read_text(encoding="utf-8").splitlines())
        assert set(once) <= set(lines)
        # Several requests may be alike (two prompts for the judge); what counts is how often.
        again = {line: (lines[line], once[line]) for line in lines if lines[line] > once[line]}
        assert again == {}

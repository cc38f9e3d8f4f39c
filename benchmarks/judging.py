"""Verdicts a second of a judge on vLLM: ours against two naive ways, with the same prompts.

align eval --model MODEL --bench humaneval --n 5 --temperature 0.8 --out answers
python -m benchmarks.judging --answers answers --json judging.json

Five samples of each of 100 problems get a rationale and a label each. `one at a time` waits for
every request (a part of the samples). `concurrent` has 100 requests in flight in a random order and
reuses nothing: neither what prompts of a task share, nor the first request's work in the second.
`ours` asks task by task, and the server keeps what requests begin with alike.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx

from align.artifacts import read_shards
from align.checkpoint import resolve_model
from align.judge_inputs import task_text
from align.serving import Servers, served_name, server_command
from align.settings import ServingSettings
from benchmarks.tables import machine, print_machine, print_table
from judges import Candidate, Judge, Judgement, load_rubric
from judges.client import ChatClient, Completion
from judges.prompts import Message

CONCURRENCY = 100
RATIONALE_TOKENS = 48


class Salted(ChatClient):
    """A client whose requests share nothing in the server's cache with those of another salt."""

    salt: Callable[[], str] = staticmethod(lambda: "")

    async def chat(self, messages: Sequence[Message], **fields: Any) -> Completion:
        """Asks with the salt of the moment."""
        return await super().chat(messages, cache_salt=type(self).salt(), **fields)


def read_candidates(answers: Path, problems: int, each: int) -> list[Candidate]:
    """Returns the samples with code, task by task: `each` of as many problems."""
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for row in read_shards(answers / "samples"):
        if row["code"]:
            candidate = Candidate(row["sample_id"], task_text(row), row["code"])
            groups[row["task_id"]].append(candidate)
    whole = [group[:each] for _, group in sorted(groups.items()) if len(group) >= each]
    return [candidate for group in whole[:problems] for candidate in group]


def counting_command(*args: Any) -> list[str]:
    """Returns a server's command line without the flag under which it counts nothing."""
    return [part for part in server_command(*args) if part != "--disable-log-stats"]


def hits(url: str) -> tuple[float, float]:
    """Returns the tokens that the server looked for in its prefix cache, and found there."""
    text = httpx.get(url.removesuffix("/v1") + "/metrics", timeout=30).text
    found = {"queries": 0.0, "hits": 0.0}
    for line in text.splitlines():
        for name in found:
            if line.startswith(f"vllm:prefix_cache_{name}_total"):
                found[name] += float(line.split()[-1])
    return found["queries"], found["hits"]


@dataclass(frozen=True)
class Round:
    """What one way did in one round.

    Attributes:
        rate: Verdicts a second.
        cached: Share of the prompts' tokens that the server found in its cache.
        labels: The likeliest label of each sample, or the status where there is none.
    """

    rate: float
    cached: float
    labels: dict[str, str]


def run_way(way: str, url: str, model: str, candidates: Sequence[Candidate], seed: int) -> Round:
    """Judges all candidates in one way."""
    rubric = load_rubric("code_quality")
    order = list(candidates)
    if way != "ours":
        random.Random(seed).shuffle(order)
    together = str(uuid.uuid4())
    salt = (lambda: together) if way == "ours" else (lambda: str(uuid.uuid4()))
    before = hits(url)
    Salted.salt = staticmethod(salt)
    began = time.monotonic()
    with patch("judges.judge.ChatClient", Salted):
        judge = Judge(
            url,
            model,
            rubric,
            concurrency=1 if way == "one at a time" else CONCURRENCY,
            rationale_tokens=RATIONALE_TOKENS,
            timeout_s=900,
            injection_threshold=None,
        )
        labels = {each.candidate_ids[0]: label(each) for each in judge.score_many(order)}
    seconds = time.monotonic() - began
    queries, found = (after - start for after, start in zip(hits(url), before, strict=True))
    return Round(len(labels) / seconds, found / queries if queries else 0.0, labels)


def label(judgement: Judgement) -> str:
    """Returns the likeliest label, or the status where there is none."""
    return max(judgement.probs, key=judgement.probs.__getitem__, default=judgement.status.value)


def main() -> None:
    """Measure the ways in turn, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--answers", type=Path, required=True, help="folder of an evaluation")
    parser.add_argument("--model", default="Qwen/Qwen2.5-Coder-0.5B-Instruct")
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--alone", type=int, default=20, help="samples that are judged one by one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    candidates = read_candidates(options.answers, options.problems, options.each)
    folder = resolve_model(options.model)
    print_machine()
    print(f"{len(candidates)} samples of {len({c.task for c in candidates})} problems")
    rounds: dict[str, list[Round]] = defaultdict(list)
    settings = ServingSettings(max_num_seqs=CONCURRENCY, kv_cache_gib=2.0)
    with (
        tempfile.TemporaryDirectory() as logs,
        patch("align.serving.server_command", counting_command),
        Servers(settings, Path(logs)) as servers,
    ):
        url, model = servers.model(folder), served_name(folder)
        run_way("ours", url, model, candidates[:2], 0)  # what a first request loads
        for number in range(options.rounds):
            for way in ("one at a time", "concurrent", "ours"):
                chosen = candidates[: options.alone] if way == "one at a time" else candidates
                done = run_way(way, url, model, chosen, number)
                rounds[way].append(done)
                print(
                    f"round {number + 1}, {way}: {done.rate:.3f}/s, {done.cached:.0%} cached",
                    flush=True,
                )
            if options.json:
                options.json.write_text(json.dumps(as_plain(rounds), indent=2) + "\n")
    show(rounds)


def as_plain(rounds: Mapping[str, Sequence[Round]]) -> dict[str, Any]:
    """Returns what was measured so far."""
    return {
        "verdicts_per_s": {way: [each.rate for each in done] for way, done in rounds.items()},
        "cached_share": {way: [each.cached for each in done] for way, done in rounds.items()},
        "equal_labels": agreements(rounds["ours"], rounds["concurrent"]),
        "equal_labels_of_two_concurrent_rounds": agreements(
            rounds["concurrent"], rounds["concurrent"][1:]
        ),
        "machine": machine(),
    }


def agreements(some: Sequence[Round], others: Sequence[Round]) -> list[float]:
    """Returns for each round of one way and of the other the share of samples of one label."""
    return [
        statistics.mean(one.labels[key] == other.labels[key] for key in one.labels)
        for one, other in zip(some, others, strict=False)
    ]


def show(rounds: Mapping[str, Sequence[Round]]) -> None:
    """Prints the table."""
    medians = {way: statistics.median(each.rate for each in done) for way, done in rounds.items()}
    print_table(
        ("way", "verdicts a second", "rounds", "prompt tokens cached", "ours is faster by"),
        [
            (
                way,
                f"{medians[way]:.2f}",
                ", ".join(f"{each.rate:.2f}" for each in done),
                f"{statistics.median(each.cached for each in done):.0%}",
                f"{medians['ours'] / medians[way]:.2f}",
            )
            for way, done in rounds.items()
        ],
    )
    plain = as_plain(rounds)
    print(
        "samples of one label, round by round: ours and concurrent "
        f"{plain['equal_labels']}, concurrent and the next round's concurrent "
        f"{plain['equal_labels_of_two_concurrent_rounds']}"
    )


if __name__ == "__main__":
    main()

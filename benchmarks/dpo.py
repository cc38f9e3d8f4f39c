"""Measure preference optimisation against stock TRL: pairs a second, memory, equal figures.

    python -m benchmarks.dpo --pairs TABLE --json FILE [--model NAME] [--count 128] [--rounds 3]

All train LoRA on the same token ids in the same order from the same weights, `--step-pairs` pairs
an optimiser step, one pass over the pairs, each in a process of its own: ours with an empty cache
of references, TRL as it comes, and TRL with precomputed references. TRL's best setting is looked
for first on a few pairs: how many are padded together, then checkpointing, then how weights are
held and computed with. Rounds are interleaved. `pairs_per_s` counts the references' computation
too, `training_pairs_per_s` leaves it out (a second run of a sweep finds them). `ours_unshared`
computes common beginnings for every row, in the first round alone: what is left is the gain of
packing and of the head. Losses are compared step by step with TRL's, log-probabilities token by
token before training.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.stock_trl import (
    CHECKPOINTING,
    Choices,
    Result,
    common_arguments,
    find_best,
    in_process,
    peak_bytes,
    weight_choices,
)
from benchmarks.tables import machine, print_machine, print_table

MODEL = "Qwen/Qwen2.5-Coder-0.5B"
KINDS = ("trl", "trl_precomputed", "ours_unshared", "ours")

PADDED: Choices = {f"{n} padded": {"batch": n} for n in (1, 2, 4, 8)}
COMPARED = 8
"""Pairs whose log-probabilities are compared token by token."""


class Context:
    """What the references need of a run: nothing is shown."""

    def log(self, event: str, **fields: Any) -> None:
        del event, fields

    @contextlib.contextmanager
    def progress(self, title: str, total: int | None) -> Iterator[Any]:
        del title, total

        class Bar:
            def advance(self, steps: int = 1) -> None:
                del steps

        yield Bar()


class Clock:
    """Adds up the seconds that a function takes."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.perf_counter() - start

        return call


def train(job: Mapping[str, Any]) -> Result:
    """Train once in this process."""
    import torch

    from align.dpo.order import PromptOrder
    from align.dpo.pairs import read_pairs
    from align.training import load_tokenizer

    torch.set_num_threads(job["threads"])
    model = Path(job["model"])
    tokenizer: Any = load_tokenizer(model)
    found = read_pairs(Path(job["pairs"]), tokenizer, job["max_length"])
    pairs = found.rows
    if job["group_prompts"]:
        pairs = [pairs[n] for n in PromptOrder([tuple(p.prompt_ids) for p in pairs], seed=0)]
    pairs = pairs[: job["count"]]
    clock, training = Clock(), Clock()
    make = _ours if job["kind"].startswith("ours") else _trl
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.environ["XDG_CACHE_HOME"] = folder
        trainer, log_probs = make(job, model, tokenizer, pairs, folder, clock)
        training.timed(trainer.train)()
    return {
        "pairs": len(pairs),
        "tokens": sum(
            2 * len(p.prompt_ids) + len(p.chosen_ids) + len(p.rejected_ids) for p in pairs
        ),
        "pairs_per_s": len(pairs) / (clock.seconds + training.seconds),
        "training_pairs_per_s": len(pairs) / training.seconds,
        "reference_s": clock.seconds,
        "training_s": training.seconds,
        "peak_bytes": peak_bytes(),
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "log_probs": log_probs,
    }


def _common(job: Mapping[str, Any], folder: str) -> Result:
    return common_arguments(folder) | {
        "learning_rate": 2e-5,
        "max_length": None,
        "remove_unused_columns": False,
        "gradient_accumulation_steps": job["step_pairs"] // job["batch"],
    }


def _ours(
    job: Mapping[str, Any], model: Path, tokenizer: Any, pairs: Any, folder: str, clock: Clock
) -> tuple[Any, list[float]]:
    from align import packing
    from align.dpo import stage
    from align.settings import DpoSettings

    if job["kind"] == "ours_unshared":
        packing._LEAST_SHARED = 1 << 30
    found: Result = {}

    def references(*args: Any, **options: Any) -> Any:
        found.update(reference(*args, **options))
        return found

    module: Any = stage
    reference = clock.timed(module.reference_log_probs)
    module.reference_log_probs = references
    settings = DpoSettings(nll_weight=0.0, batch_pairs=job["batch"], dtype=job["dtype"])
    arguments = _common(job, folder) | {"gradient_checkpointing": False, "bf16": False}
    context: Any = Context()
    trainer = stage.build_trainer(
        settings, model, model, tokenizer, pairs, [], arguments, [], context
    )
    sides = [side for pair in pairs[:COMPARED] for side in found[pair.key]]
    return trainer, [value for side in sides for value in side]


def _trl(
    job: Mapping[str, Any], model: Path, tokenizer: Any, pairs: Any, folder: str, clock: Clock
) -> tuple[Any, list[float]]:
    """Stock TRL on the same ids, as its documentation says to use it."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    class Tokenised(DPOTrainer):  # it has no other way past its templates
        def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
            return dataset

        def _precompute_ref_logps(self, *args: Any) -> Dataset:
            found: Dataset = clock.timed(super()._precompute_ref_logps)(*args)
            return found

    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = [{name: getattr(pair, name) for name in names} for pair in pairs]
    trainer: Any = Tokenised(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=job["dtype"]),
        args=DPOConfig(
            **_common(job, folder),
            per_device_train_batch_size=job["batch"],
            gradient_checkpointing=job["checkpointing"],
            bf16=job["autocast"],
            precompute_ref_log_probs=job["kind"] == "trl_precomputed",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    log_probs: list[float] = []
    for row in rows[:COMPARED]:
        batch = trainer._prepare_inputs(trainer.data_collator([row]))
        mask = batch.pop("completion_mask")
        labels = batch["input_ids"].masked_fill(mask == 0, -100)
        with torch.no_grad(), trainer.accelerator.autocast():
            scores = trainer.model(**batch, labels=labels, fused_lm_head=True).log_probs
        log_probs += scores[mask[:, 1:] == 1].tolist()
    return trainer, log_probs


def measured(job: Mapping[str, Any]) -> Result:
    """Trains in a process of its own, and says how fast it was."""
    result = in_process("benchmarks.dpo", job)
    print(
        f"{job['kind']} {job['batch']} at a time, {job['count']} pairs: "
        f"{result['pairs_per_s']:.3f} pairs/s",
        file=sys.stderr,
        flush=True,
    )
    return result


def plain_setting(dtype: str) -> Result:
    """Where the search for TRL's best setting starts."""
    return {
        "kind": "trl",
        "batch": 1,
        "checkpointing": False,
        "dtype": dtype,
        "autocast": dtype == "bfloat16",
    }


def compare(job: Result, probe_pairs: int, rounds: int) -> Result:
    """Look for TRL's best setting, then measure all in turn."""
    padded = {name: each for name, each in PADDED.items() if each["batch"] <= job["step_pairs"]}
    best, tried = find_best(
        (padded, CHECKPOINTING, weight_choices(job["dtype"])),
        plain_setting(job["dtype"]),
        lambda _, setting: measured({**job, **setting, "count": probe_pairs}),
        "pairs_per_s",
    )
    found: dict[str, list[Result]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        for kind, runs in found.items():
            if kind == "ours_unshared" and number:
                continue  # it tells causes apart, and once is enough for that
            setting = {"batch": job["our_batch"]} if kind.startswith("ours") else best
            runs.append(measured({**job, **setting, "kind": kind}))
    figures = {kind: _median(runs) for kind, runs in found.items()}
    ours, trl = figures["ours"], figures["trl"]
    away = [abs(a - b) for a, b in zip(ours.pop("log_probs"), trl.pop("log_probs"), strict=True)]
    losses = [abs(a - b) for a, b in zip(ours["losses"], trl["losses"], strict=True)]
    return {
        **figures,
        "trl_setting": best,
        "trl_settings": tried,
        "ratio": ours["pairs_per_s"] / trl["pairs_per_s"],
        "ratio_precomputed": ours["pairs_per_s"] / figures["trl_precomputed"]["pairs_per_s"],
        "largest_log_prob_difference": max(away),
        "mean_log_prob_difference": statistics.mean(away),
        "largest_loss_difference": max(losses),
        "machine": machine(),
        "job": job,
    }


def _median(runs: Sequence[Result]) -> Result:
    """The rounds' median rates and largest memory; the rest is the same in each."""
    rates = ("pairs_per_s", "training_pairs_per_s", "reference_s", "training_s")
    return {
        **runs[0],
        **{name: statistics.median(run[name] for run in runs) for name in rates},
        "rounds": [run["pairs_per_s"] for run in runs],
        "peak_bytes": max(run["peak_bytes"] for run in runs),
    }


def report(result: Result) -> None:
    """Print what was found."""
    print_machine()
    rows = [
        [
            name,
            f"{r['pairs_per_s']:.3f}",
            f"{r['training_pairs_per_s']:.3f}",
            f"{r['peak_bytes'] / 2**30:.2f}",
        ]
        for name, r in (
            *((f"trl, {name}", each) for name, each in result["trl_settings"].items()),
            *((kind, result[kind]) for kind in KINDS),
        )
    ]
    print_table(["", "pairs/s", "without references", "peak GiB"], rows)
    print(
        f"ratio {result['ratio']:.2f}, to precomputed references {result['ratio_precomputed']:.2f}"
    )
    print(
        f"log-probabilities of tokens differ by {result['mean_log_prob_difference']:.1e} in the "
        f"mean, {result['largest_log_prob_difference']:.1e} at most; losses of steps by at most "
        f"{result['largest_loss_difference']:.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", help="a table of pairs, as `align pair` writes it")
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--model", default=MODEL, help="Hub id or folder")
    parser.add_argument("--count", type=int, default=128, help="pairs of the table to train on")
    parser.add_argument("--probe-pairs", type=int, default=16, help="for each of TRL's settings")
    parser.add_argument("--step-pairs", type=int, default=8, help="pairs of an optimiser step")
    parser.add_argument("--our-batch", type=int, default=4, help="pairs that we pack together")
    parser.add_argument(
        "--group-prompts", action="store_true", help="all take a prompt's pairs one after another"
    )
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["auto", "bfloat16", "float32"], default="auto")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(train(json.loads(options.job))))
        return
    if not options.pairs:
        parser.error("--pairs is needed: a table of pairs")
    from align.checkpoint import resolve_model
    from align.precision import compute_dtype

    job: Result = {
        "model": str(resolve_model(options.model)),
        "pairs": str(Path(options.pairs).resolve()),
        "count": options.count,
        "step_pairs": options.step_pairs,
        "our_batch": options.our_batch,
        "group_prompts": options.group_prompts,
        "max_length": options.max_length,
        "threads": options.threads,
        "dtype": compute_dtype(options.dtype),
    }
    result = compare(job, options.probe_pairs, options.rounds)
    report(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Measure supervised fine-tuning against stock TRL: trained tokens a second, memory, losses.

    python -m benchmarks.sft --json FILE [--model NAME] [--rows 256] [--rounds 3] [--full]
    python -m benchmarks.sft --profile [--model NAME] [--rows 32]

Both train the same tokens and labels in the same order from the same weights, `--step-rows` rows an
optimiser step, each in a process of its own. TRL's best setting is looked for first on a few rows:
packed or not, then checkpointing, then how weights are held and computed with. Rounds are
interleaved. Losses are compared step by step with TRL's plain path: unpacked, no checkpointing,
weights held as in its best setting; where that is faster on all rows, it is the one to beat. What
is trained is thrown away.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from align.settings import LoraSettings, SftSettings
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
DATA = "gpteacher_codegen/codegen-instruct.json"
LEARNING_RATE = 1e-4

PACKINGS: Choices = {
    "unpacked 4": {"packing": False, "batch": 4},
    "unpacked 16": {"packing": False, "batch": 16},
    "packed 512": {"packing": True, "length": 512},
    "packed 1024": {"packing": True, "length": 1024},
}
PLAIN: Result = {
    "packing": False,
    "batch": 4,
    "length": 1024,
    "checkpointing": False,
    "dtype": "bfloat16",
    "autocast": True,
}


def token_rows(model: Path, table: str, count: int) -> list[Any]:
    """The first rows of an instruction table (instruction, input, response, or messages)."""
    from align.sft.rows import TokenRow
    from align.tables import read_rows
    from align.training import load_tokenizer

    from align.chat import encode_chat  # isort: skip

    tokenizer: Any = load_tokenizer(model)
    rows = []
    for place, row in read_rows(table):
        messages = row.get("messages")
        if messages is None:
            parts = [row["instruction"], row.get("input") or ""]
            messages = [
                {"role": "user", "content": "\n\n".join(part for part in parts if part)},
                {"role": "assistant", "content": row["response"]},
            ]
        if messages[-1]["content"]:
            rows.append(TokenRow(place, encode_chat(tokenizer, messages), 1.0))
        if len(rows) == count:
            break
    return rows


def train(job: Mapping[str, Any], profile: bool = False) -> Result:
    """Train once in this process; `job` is ours where it has no `packing`."""
    import torch
    from transformers import TrainerCallback

    torch.set_num_threads(job["threads"])
    model = Path(job["model"])
    rows = token_rows(model, job["data"], job["rows"])
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.perf_counter())

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        make = _trl if "packing" in job else _ours
        with contextlib.redirect_stdout(io.StringIO()):  # the trainers print each step
            trainer = make(job, model, rows, folder, [Clock()])
            if profile:
                with torch.profiler.profile() as profiler:
                    trainer.train()
            else:
                trainer.train()
    tokens = sum(len(row.encoded.input_ids) for row in rows)
    labels = sum(sum(label != -100 for label in row.encoded.labels) for row in rows)
    seconds = times[1] - times[0]
    result: Result = {
        "tokens_per_s": tokens / seconds,
        "labels_per_s": labels / seconds,
        "peak_bytes": peak_bytes(),
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }
    if profile:
        result["profile"] = profiler.key_averages().table(
            sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=50
        )
        result["bound_tokens_per_s"] = tokens / _least_seconds(trainer, rows, job["step_rows"])
    return result


def _ours(
    job: Mapping[str, Any], model: Path, rows: Sequence[Any], folder: str, callbacks: Any
) -> Any:
    from align.sft.stage import build_trainer
    from align.training import load_model, load_tokenizer, training_dtype

    settings = SftSettings(
        lora=None if job["full"] else LoraSettings(),
        batch_rows=job["step_rows"],
        dtype=job["dtype"],
    )
    arguments = common_arguments(folder) | {
        "learning_rate": LEARNING_RATE,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "bf16": bool(job["full"]) and job["dtype"] == "bfloat16",
        "max_length": None,
        "remove_unused_columns": False,
    }
    weights = load_model(model, training_dtype(settings))
    return build_trainer(settings, weights, load_tokenizer(model), rows, arguments, callbacks, {})


def _trl(
    job: Mapping[str, Any], model: Path, rows: Sequence[Any], folder: str, callbacks: Any
) -> Any:
    """Stock TRL on the same ids and labels, as its documentation says to use it."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from align.training import load_tokenizer

    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    dataset = Dataset.from_dict(
        {
            "input_ids": [row.encoded.input_ids for row in rows],
            "labels": [row.encoded.labels for row in rows],
        }
    )
    batch, accumulate = job.get("batch", 1), 1
    if job["packing"]:
        # As many packs as hold the rows of a step.
        tokens = sum(len(row.encoded.input_ids) for row in rows) / len(rows) * job["step_rows"]
        accumulate = max(1, round(tokens / job["length"]))
    else:
        batch = min(batch, job["step_rows"])
        accumulate = job["step_rows"] // batch
    arguments = SFTConfig(
        **common_arguments(folder),
        learning_rate=LEARNING_RATE,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulate,
        gradient_checkpointing=job["checkpointing"],
        bf16=job["autocast"],
        packing=job["packing"],
        max_length=job["length"],
    )
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=job["dtype"]),
        args=arguments,
        train_dataset=dataset,
        processing_class=load_tokenizer(model),
        peft_config=None if job["full"] else lora,
        callbacks=callbacks,
    )


def _least_seconds(trainer: Any, rows: Sequence[Any], step_rows: int) -> float:
    """What the matrix products alone would take at the machine's rate.

    4 operations a frozen weight and token (forward, and back to the input), 6 a trained one; the
    head's only at labels, the layers' only at tokens that are computed.
    """
    from align.packing import pack
    from align.plan import matmul_rate

    model = trainer.model
    head = model.get_output_embeddings().weight
    layers = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed_tokens" not in n]
    layers = [p for p in layers if p is not head]
    work = 0
    for start in range(0, len(rows), step_rows):
        some = [(r.encoded.input_ids, r.encoded.labels) for r in rows[start : start + step_rows]]
        batch = pack(some)
        each = sum(p.numel() * (6 if p.requires_grad else 4) for p in layers)
        work += each * batch["input_ids"].numel()
        work += head.numel() * (6 if head.requires_grad else 4) * len(batch["targets"])
    return work / matmul_rate()


def plain_setting(job: Mapping[str, Any]) -> Result:
    """TRL's path without packing or checkpointing, from which the search starts."""
    held = "float32" if job["full"] else job["dtype"]
    return PLAIN | {"dtype": held, "autocast": job["dtype"] == "bfloat16"}


def measured(name: str, job: Mapping[str, Any]) -> Result:
    """Trains in a process of its own, and says how fast it was."""
    result = in_process("benchmarks.sft", job)
    print(f"{name}: {result['tokens_per_s']:.1f} tokens/s", file=sys.stderr, flush=True)
    return result


def compare(job: Result, probe_rows: int, rounds: int) -> Result:
    """Look for TRL's best setting, then measure both in turn."""
    # Trained weights themselves are float32: in bf16 small updates vanish, and losses differ.
    weights = {} if job["full"] else weight_choices(job["dtype"])
    best, tried = find_best(
        (PACKINGS, CHECKPOINTING, weights),
        plain_setting(job),
        lambda name, setting: measured(name, {**job, **setting, "rows": probe_rows}),
        "tokens_per_s",
    )
    found: dict[str, list[Result]] = {"trl": [], "ours": []}
    for _ in range(rounds):
        for name, runs in found.items():
            runs.append(measured(name, {**job, **(best if name == "trl" else {})}))
    ours, trl = (_median(found[name]) for name in ("ours", "trl"))
    unpacked = best | {"packing": False, "batch": best.get("batch", 4), "checkpointing": False}
    plain = found["trl"][0] if best == unpacked else measured("plain path", {**job, **unpacked})
    differences = [abs(a - b) / b for a, b in zip(ours["losses"], plain["losses"], strict=True)]
    return {
        "ours": ours,
        "trl": {**trl, "setting": best},
        "trl_settings": tried,
        "plain": plain,
        "ratio": ours["tokens_per_s"] / max(trl["tokens_per_s"], plain["tokens_per_s"]),
        "largest_loss_difference": max(differences),
        "machine": machine(),
        "job": job,
    }


def _median(runs: Sequence[Result]) -> Result:
    """The rounds' median rate and largest memory; losses are the same in each."""
    return {
        "tokens_per_s": statistics.median(run["tokens_per_s"] for run in runs),
        "labels_per_s": statistics.median(run["labels_per_s"] for run in runs),
        "rounds": [run["tokens_per_s"] for run in runs],
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "losses": runs[0]["losses"],
    }


def report(result: Result) -> None:
    """Print what was found."""
    print_machine()
    rows = [
        [name, f"{r['tokens_per_s']:.1f}", f"{r['peak_bytes'] / 2**30:.2f}"]
        for name, r in (
            *((f"TRL, {name}", each) for name, each in result["trl_settings"].items()),
            ("TRL, plain path", result["plain"]),
            ("TRL, best setting", result["trl"]),
            ("ours", result["ours"]),
        )
    ]
    print_table(["", "tokens/s", "peak GiB"], rows)
    print(f"ratio {result['ratio']:.2f}; largest relative difference of a step's loss from the")
    print(f"plain path {result['largest_loss_difference']:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--model", default=MODEL, help="Hub id or folder")
    parser.add_argument("--data", default=DATA, help="a table; looked for below $ALIGN_DATA, too")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--probe-rows", type=int, default=32, help="rows of each of TRL's settings")
    parser.add_argument("--step-rows", type=int, default=16, help="rows of an optimiser step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["auto", "bfloat16", "float32"], default="auto")
    parser.add_argument("--full", action="store_true", help="train all weights, no adapter")
    parser.add_argument("--profile", action="store_true", help="only ours, by operator")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(train(json.loads(options.job))))
        return
    from align.checkpoint import resolve_model
    from align.precision import compute_dtype

    job: Result = {
        "model": str(resolve_model(options.model)),
        "data": options.data,
        "rows": options.rows,
        "step_rows": options.step_rows,
        "threads": options.threads,
        "full": options.full,
        "dtype": compute_dtype(options.dtype),
    }
    if options.profile:
        result = train(job, profile=True)
        print(result.pop("profile"))
        print({name: value for name, value in result.items() if name != "losses"})
        return
    result = compare(job, options.probe_rows, options.rounds)
    report(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

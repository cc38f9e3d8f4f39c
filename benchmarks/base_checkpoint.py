"""Prove the chat tokens of a base model without one at hand, on the real 0.5B.

    python -m benchmarks.base_checkpoint --json FILE [--rows 512] [--prompts 100] [--work FOLDER]

A base checkpoint of the Qwen2.5 family never trained `<|im_start|>` and `<|im_end|>`. Here the two
tied rows of a tuned checkpoint are drawn anew, which is the same or worse. Then, by the command
`align` alone: LoRA with those rows frozen must be refused, with the reason; a coarse LoRA that
trains them must end its answers by itself. Greedy answers to prompts that were not trained on are
counted before and after, by vLLM. Exits with 1 where fewer than 95% end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.sft import DATA, MODEL
from benchmarks.tables import machine, print_machine, print_table

TOKENS = ("<|im_start|>", "<|im_end|>")
LEAST = 0.95


def align(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a verb as a user does; its messages go to stderr as they come."""
    command = [sys.executable, "-m", "align.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    return done


def checked(*arguments: str | Path) -> None:
    """Run a verb that must succeed."""
    if align(*arguments).returncode:
        raise SystemExit(f"align {' '.join(map(str, arguments))} failed")


def draw_anew(source: Path, folder: Path) -> None:
    """Copy a checkpoint; its rows of the chat tokens become random ones of the usual spread."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    if not model.config.tie_word_embeddings:
        raise SystemExit("the checkpoint's embeddings are not tied: take the 0.5B")
    rows = model.get_input_embeddings().weight.data
    torch.manual_seed(0)
    for name in TOKENS:
        row = torch.randn(rows.shape[1]) * rows.float().std()
        rows[tokenizer.convert_tokens_to_ids(name)] = row.to(rows.dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tables(source: Path, work: Path, rows: int, prompts: int) -> tuple[Path, Path]:
    """Write the first rows as training rows, and prompts of the rows behind them as tasks."""
    from align.tables import read_rows

    chosen = [row for _, row in read_rows(source)][: rows + prompts]
    if len(chosen) < rows + prompts:
        raise SystemExit(f"{source} holds {len(chosen)} rows, {rows + prompts} are needed")
    train = [{"row_id": row["row_id"], "messages": row["messages"]} for row in chosen[:rows]]
    asked = [{"task_id": row["row_id"], "messages": row["messages"][:-1]} for row in chosen[rows:]]
    paths = (work / "train.jsonl", work / "tasks.jsonl")
    for path, content in zip(paths, (train, asked), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return paths


def endings(model: Path, tasks: Path, out: Path, most: int) -> dict[str, int]:
    """Sample each task once, greedily, and count how the answers ended."""
    from align.tables import read_rows

    options = ("--n", "1", "--temperature", "0", "--set", f"max_tokens={most}")
    serving = ("--set", "serving.eager=true", "--set", "serving.max_model_len=2048")
    checked("sample", "--model", model, "--tasks", tasks, "--out", out, *options, *serving)
    return dict(Counter(str(row["finish_reason"]) for _, row in read_rows(out)))


def prove(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Make the checkpoint, have it refused, train it, and count endings before and after."""
    from align.checkpoint import resolve_model

    base = work / "base"
    draw_anew(resolve_model(options.model), base)
    decontaminate = ("--set", "decontaminate=[humaneval]")
    checked("data", "--rows", options.data, "--out", work / "data", *decontaminate)
    train, tasks = tables(work / "data" / "rows", work, options.rows, options.prompts)
    settings = ["--set", "batch_rows=8", "--set", f"learning_rate={options.learning_rate}"]
    command: list[str | Path] = ["sft", "--model", base, "--rows", train, *settings]
    refused = align(*command, "--out", work / "never", "--set", "lora.train_tokens=never")
    if not refused.returncode or any(name not in refused.stderr for name in TOKENS):
        raise SystemExit("the run with frozen rows was not refused by their names")
    before = endings(base, tasks, work / "before.jsonl", options.max_tokens)
    started = time.monotonic()
    checked(*command, "--out", work / "tuned")
    seconds = time.monotonic() - started
    after = endings(work / "tuned" / "model", tasks, work / "after.jsonl", options.max_tokens)
    manifest = json.loads((work / "tuned" / "manifest.json").read_text(encoding="utf-8"))
    return {
        "refused": refused.stderr.strip().splitlines()[-1],
        "before": before,
        "after": after,
        "ended": after.get("stop", 0) / options.prompts,
        "train_seconds": seconds,
        "counts": manifest["counts"],
        "losses": [step["loss"] for step in manifest["details"]["curve"]],
        "machine": machine(),
    }


def report(result: dict[str, Any]) -> None:
    """Print what was found."""
    print_machine()
    rows = [
        [name, str(result[key].get("stop", 0)), str(result[key].get("length", 0))]
        for name, key in (("rows drawn anew", "before"), ("after a coarse LoRA", "after"))
    ]
    print_table(["greedy answers", "ended by themselves", "cut"], rows)
    print(f"frozen rows: {result['refused']}")
    print(f"trained {result['counts']['tokens']} tokens in {result['train_seconds']:.0f} s")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--model", default=MODEL, help="Hub id or folder")
    parser.add_argument("--data", default=DATA, help="instruction rows")
    parser.add_argument("--rows", type=int, default=512, help="rows to train on")
    parser.add_argument("--prompts", type=int, default=100, help="prompts to ask")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--max-tokens", type=int, default=512, help="where an answer is cut")
    parser.add_argument("--work", type=Path, help="keep what is made in this folder")
    options = parser.parse_args(arguments)
    work = options.work or Path(tempfile.mkdtemp(prefix="align-base-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        result = prove(options, work)
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)
    report(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if result["ended"] < LEAST:
        raise SystemExit(f"only {result['ended']:.0%} of the answers ended by themselves")


if __name__ == "__main__":
    main()

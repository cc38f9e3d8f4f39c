"""`align sft` on a user's own tables: stage after stage, several tables, an adapter that serves."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
from typer.testing import CliRunner

from align import guard
from align.chat import encode_prompt
from align.cli import app
from align.errors import RecipeError
from align.lineage import lineage
from align.serving import server_command, server_environment
from align.settings import ServingSettings
from tests.live_fixtures import require_vllm
from tests.tiny import build_tiny_model

FAST = ["--set", "learning_rate=0.01", "--set", "batch_rows=2", "--set", "dtype=float32"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"))


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    return table(
        tmp_path / "chats.jsonl",
        [
            {
                "messages": [
                    {"role": "user", "content": f"return {number}"},
                    {"role": "assistant", "content": f"def f():\n    return {number}\n"},
                ]
            }
            for number in range(8)
        ],
    )


@pytest.fixture
def gaps(tmp_path: Path) -> Path:
    return table(
        tmp_path / "gaps.jsonl",
        [
            {"fim": {"prefix": f"x{n} = ", "middle": f"{n} + 1", "suffix": "\nprint(x)\n"}}
            for n in range(8)
        ],
    )


def sft(*options: str | Path) -> Any:
    return CliRunner().invoke(app, ["sft", *map(str, options), *FAST])


def test_coarse_fine_and_mixed_follow_one_another(
    model: Path, chats: Path, gaps: Path, tmp_path: Path
) -> None:
    for name, start, rows in (
        ("coarse", model, ["--rows", chats]),
        ("fine", tmp_path / "coarse" / "model", ["--rows", chats, "--set", "max_rows=4"]),
        (
            "mixed",
            tmp_path / "fine" / "model",
            [
                *("--rows", f"chat={chats}", "--rows", f"fim={gaps}"),
                *("--set", "mix.chat=0.75", "--set", "mix.fim=0.25"),
            ],
        ),
    ):
        result = sft("--model", start, *rows, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "mixed" / "manifest.json").read_text())
    used = {name: source["used"] for name, source in manifest["details"]["sources"].items()}
    assert used["chat"] == 3 * used["fim"] > 0
    assert len(lineage(tmp_path / "mixed" / "model")) == 3
    again = sft("--model", model, "--rows", chats, "--out", tmp_path / "coarse")
    assert again.exit_code == 0 and "done already" in " ".join(again.output.split())


def test_two_tables_without_names_are_refused(model: Path, chats: Path, tmp_path: Path) -> None:
    result = sft("--model", model, "--rows", chats, "--rows", chats, "--out", tmp_path / "o")
    assert isinstance(result.exception, RecipeError)
    assert "--rows NAME=TABLE" in str(result.exception)
    result = sft("--model", model, "--rows", f"model={chats}", "--out", tmp_path / "o")
    assert isinstance(result.exception, RecipeError) and "taken" in str(result.exception)
    assert not (tmp_path / "o").exists()


def greedy(adapter: Path, prompt: list[int], tokens: int) -> list[int]:
    tuned: Any = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32)
    output = tuned.generate(
        input_ids=torch.tensor([prompt]), max_new_tokens=tokens, do_sample=False
    )
    found: list[int] = output[0, len(prompt) :].tolist()
    return found


@pytest.mark.vllm
def test_vllm_serves_the_adapter_by_name(model: Path, chats: Path, tmp_path: Path) -> None:
    require_vllm()
    result = sft(
        "--model", model, "--rows", chats, "--out", tmp_path / "tuned", "--set", "epochs=8"
    )
    assert result.exit_code == 0, result.output
    adapter = tmp_path / "tuned" / "adapter"
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    prompt = encode_prompt(tokenizer, [{"role": "user", "content": "return 3"}])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ServingSettings(dtype="float32", kv_cache_gib=0.25, max_model_len=256)
    command = [*server_command(settings, model, port, cpu=True), "--enable-lora"]
    command += ["--lora-modules", f"mine={adapter}"]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), *command],
            env=server_environment(cpu=True),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, tmp_path / "server.log")
        answers = {}
        for name in ("mine", json_models(port)[0]):
            body = {"model": name, "prompt": prompt, "max_tokens": 12, "temperature": 0}
            reply = httpx.post(
                f"http://127.0.0.1:{port}/v1/completions",
                json=body | {"return_token_ids": True},
                timeout=120,
            )
            answers[name] = reply.raise_for_status().json()["choices"][0]["token_ids"]
    finally:
        server.terminate()
        server.wait(timeout=30)
    base = answers.pop(next(name for name in answers if name != "mine"))
    assert answers["mine"] == greedy(adapter, prompt, 12)[: len(answers["mine"])]
    assert answers["mine"] != base


def json_models(port: int) -> list[str]:
    models = httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=30).json()["data"]
    return [each["id"] for each in models if each["id"] != "mine"]


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")

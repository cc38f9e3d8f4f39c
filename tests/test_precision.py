"""The type that models are computed in, told by the processor; weights keep their own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from align import serving
from align.checkpoint import weights_dtype
from align.errors import CheckpointError
from align.precision import compute_dtype, cpu_dtype
from align.serving import served_dtype, server_command
from align.settings import ServingSettings
from tests.test_sft import FAST, chat_row, write_rows
from tests.tiny import build_tiny_model
from tests.training_context import train


@pytest.mark.parametrize(
    ("facts", "fast"),
    [
        ("processor : 0\nflags\t\t: fpu sse2 avx2 fma\n", "float32"),
        ("processor : 0\nflags\t\t: avx2 avx512f avx512_bf16\n", "bfloat16"),
        ("processor : 0\nflags\t\t: avx512f amx_bf16 amx_tile\n", "bfloat16"),
        ("processor : 0\nFeatures\t: fp asimd bf16 i8mm\n", "bfloat16"),
        ("processor : 0\nFeatures\t: fp asimd\n", "float32"),
        ("nothing that is known\n", "float32"),
    ],
)
def test_the_processor_tells_which_type_is_fast(tmp_path: Path, facts: str, fast: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(facts)
    assert cpu_dtype(path) == fast


def test_a_system_that_tells_nothing_computes_in_float32(tmp_path: Path) -> None:
    assert cpu_dtype(tmp_path / "nowhere") == "float32"


def test_a_type_that_is_asked_for_is_taken() -> None:
    assert (compute_dtype("bfloat16"), compute_dtype("float32")) == ("bfloat16", "float32")
    assert served_dtype(ServingSettings(dtype="float16"), cpu=True) == "float16"


@pytest.mark.parametrize("fast", ["bfloat16", "float32"])
def test_servers_on_a_cpu_are_told_the_fast_type(
    fast: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(serving, "cpu_dtype", lambda: fast)
    command = server_command(ServingSettings(), tmp_path, 1, cpu=True)
    assert command[command.index("--dtype") + 1] == fast
    on_gpu = server_command(ServingSettings(), tmp_path, 1, cpu=False)
    assert on_gpu[on_gpu.index("--dtype") + 1] == "auto"


@pytest.mark.parametrize("lora", [{}, None], ids=["adapter", "all weights"])
def test_weights_keep_their_type_whatever_they_are_computed_in(
    tmp_path: Path, lora: dict[str, Any] | None
) -> None:
    tiny = build_tiny_model(tmp_path / "tiny")
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16)
    model.save_pretrained(tiny)
    rows = write_rows(tmp_path / "rows.jsonl", [chat_row(number) for number in range(4)])
    settings = FAST | {"dtype": "float32", "epochs": 1.0, "lora": lora}
    train("sft", settings, {"model": tiny, "data": rows}, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_weights_of_another_type_are_refused_by_its_name(tmp_path: Path) -> None:
    header = b'{"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    weights = len(header).to_bytes(8, "little") + header + b"\0"
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match=r"F8_E4M3.*bfloat16"):
        weights_dtype(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="can't be read"):
        weights_dtype(tmp_path)

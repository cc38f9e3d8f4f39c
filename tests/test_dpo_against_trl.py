"""The same pairs trained by us and by stock TRL: the same loss at every step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dpo import compare
from tests.tiny import build_tiny_model


@pytest.mark.slow
def test_every_step_s_loss_and_every_token_s_log_probability_are_those_of_trl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.dpo.CHECKPOINTING", {})
    monkeypatch.setattr("benchmarks.dpo.PADDED", {"2 padded": {"batch": 2}})
    rows = [
        {
            "prompt": [{"role": "user", "content": f"return {n % 5}" * (1 + n % 5)}],
            "chosen": [
                {"role": "assistant", "content": f"def f():\n    return {n}\n" * (n % 4 + 1)}
            ],
            "rejected": [{"role": "assistant", "content": f"def f():\n    return {n + 1}\n"}],
        }
        for n in range(1, 13)
    ]
    table = tmp_path / "pairs.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    job: dict[str, Any] = {
        "model": str(build_tiny_model(tmp_path / "tiny")),
        "pairs": str(table),
        "count": 12,
        "step_pairs": 4,
        "our_batch": 2,
        "group_prompts": True,
        "max_length": 512,
        "threads": 1,
        "dtype": "float32",
    }
    result = compare(job, probe_pairs=4, rounds=1)
    assert len(result["ours"]["losses"]) == 3
    assert result["largest_loss_difference"] < 1e-5
    assert result["largest_log_prob_difference"] < 1e-5
    assert result["ours"]["losses"][0] == pytest.approx(
        result["ours_unshared"]["losses"][0], abs=1e-5
    )
    for kind in ("ours", "trl", "trl_precomputed"):
        assert result[kind]["pairs_per_s"] > 0
        assert result[kind]["peak_bytes"] > 0
    assert result["trl_precomputed"]["reference_s"] > 0
    assert result["trl"]["reference_s"] == 0

"""The same rows trained by us and by stock TRL, unpacked: the same loss at every step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sft import measured, plain_setting
from tests.tiny import build_tiny_model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("full", "dtype", "close"),
    [(False, "float32", 1e-5), (True, "bfloat16", 1e-2)],
    ids=["lora in float32", "all weights in bfloat16"],
)
def test_every_step_s_loss_is_that_of_trl_s_plain_path(
    tmp_path: Path, full: bool, dtype: str, close: float
) -> None:
    rows = [
        {"instruction": f"return {n}" * (1 + n % 3), "response": f"def f():\n    return {n}\n" * n}
        for n in range(1, 13)
    ]
    table = tmp_path / "rows.json"
    table.write_text(json.dumps(rows), encoding="utf-8")
    job: dict[str, Any] = {
        "model": str(build_tiny_model(tmp_path / "tiny")),
        "data": str(table),
        "rows": 12,
        "step_rows": 4,
        "threads": 1,
        "full": full,
        "dtype": dtype,
    }
    ours = measured("ours", job)
    plain = measured("plain", {**job, **plain_setting(job)})
    assert len(ours["losses"]) == 3
    assert ours["losses"] == pytest.approx(plain["losses"], rel=close)
    assert ours["peak_bytes"] > 0

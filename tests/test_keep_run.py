"""scripts/keep_run.py: the copy of a run without weights tells the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from align.report.collect import collect
from tests.report_run import make_full_run

SCRIPT = Path(__file__).parent.parent / "scripts" / "keep_run.py"


def test_the_copy_of_a_run_reports_the_same_and_names_no_place(tmp_path: Path) -> None:
    run = make_full_run(tmp_path / "data" / "run")
    (run / "dpo.r1").mkdir(exist_ok=True)
    (run / "dpo.r1" / "weights.safetensors").write_bytes(b"weights")
    with (run / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(f'{{"stage": "data", "event": "note", "text": "{tmp_path}/data/rows.json"}}\n')
    target = tmp_path / "kept" / "run"

    subprocess.run(
        [sys.executable, SCRIPT, run, target],
        check=True,
        env={"ALIGN_DATA": str(tmp_path / "data"), "HOME": str(Path.home())},
    )

    before, after = collect(run), collect(target)
    assert [stage.id for stage in after.stages] == [stage.id for stage in before.stages]
    assert [e.benchmarks for e in after.evaluations] == [e.benchmarks for e in before.evaluations]
    assert after.isolation == before.isolation
    assert after.outcomes == before.outcomes
    names = {path.name for path in target.rglob("*") if path.is_file()}
    assert names == {
        "log.jsonl",
        "identity.json",
        "manifest.json",
        "result.json",
        "shard-00000.parquet",
    }
    log_text = (target / "log.jsonl").read_text(encoding="utf-8")
    assert "$ALIGN_DATA/rows.json" in log_text
    assert str(tmp_path) not in log_text


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "is there already" in done.stderr

"""scripts/result.sh: what it fetches, which runs it makes. `align` notes its arguments here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "result.sh"
DATA = Path(os.environ.get("ALIGN_DATA", "no data"))
FILES = {
    "gpteacher_codegen/codegen-instruct.json": (
        "teknium1/GPTeacher/8afcaaa7a11dd980162d861bd6be970f95eb7174/Codegen/codegen-instruct.json"
    ),
    "humaneval_infilling/HumanEval-SingleLineInfilling.jsonl.gz": (
        "openai/human-eval-infilling/88062ff9859c875d04db115b698ed4b0f0395170/data/"
        "HumanEval-SingleLineInfilling.jsonl.gz"
    ),
}
with_data = pytest.mark.skipif(
    not (DATA / "gpteacher_codegen").exists(), reason="$ALIGN_DATA is not set"
)


class House:
    """A checkout with the script alone, and an environment whose `align` notes its arguments."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.raw = folder, folder / "data", folder / "raw"
        (folder / "scripts").mkdir()
        shutil.copy(SCRIPT, folder / "scripts")
        bin_folder = folder / "venv" / "bin"
        bin_folder.mkdir(parents=True)
        # By its own path: as a link it would look for its libraries beside itself.
        python, align = bin_folder / "python", bin_folder / "align"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        align.write_text(
            '#!/bin/sh\necho "$@" >>calls\ncase "$*" in *name=seed-7*) exit 3;; esac\n'
        )
        python.chmod(0o755)
        align.chmod(0o755)

    def write(self, below: Path, names: dict[str, str], source: Path | None) -> None:
        for file, name in names.items():
            target = below / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((source / file).read_bytes() if source else b"something else")

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        names = {
            "PATH": os.environ["PATH"],
            "VENV": str(self.folder / "venv"),
            "ALIGN_DATA": str(self.data),
            "ALIGN_RAW": self.raw.as_uri(),
        }
        return subprocess.run(
            [self.folder / "scripts" / "result.sh", *arguments],
            env={**names, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_each_seed_is_a_run_and_all_have_one_report(house: House) -> None:
    house.write(house.data, {name: name for name in FILES}, None)

    done = house.run("--set", "serving.max_num_seqs=8", SEEDS="4 5")

    assert done.returncode == 0, done.stderr
    first, second, report = house.calls()
    # The start is one model: one run measures it by many answers.
    for seed, call, measured in ((4, first, "start, dpo.r2"), (5, second, "dpo.r2")):
        assert call.startswith("run recipes/qwen2.5-coder/0.5b-cpu.yaml ")
        assert f"--set seed={seed} --set name=seed-{seed} --set eval.repeated={{n: 10," in call
        assert f"checkpoints: [{measured}]}}" in call
        assert call.endswith("--set serving.max_num_seqs=8")
        assert "data.tasks" not in call  # from the Hub, as the recipe says
    assert report == "report runs/seed-4 runs/seed-5 --out runs/seeds.html"


def test_mbpp_beside_the_other_data_is_taken(house: House) -> None:
    names = [*FILES, "mbpp/mbpp_train.jsonl"]
    house.write(house.data, {name: name for name in names}, None)

    house.run(SEEDS="4")

    (call,) = house.calls()
    assert f"--set data.tasks=[{house.data}/mbpp/mbpp_train.jsonl]" in call


def test_a_run_that_fails_ends_it(house: House) -> None:
    house.write(house.data, {name: name for name in FILES}, None)

    done = house.run(SEEDS="4 7 5")

    assert done.returncode == 3
    assert len(house.calls()) == 2


def test_a_file_that_is_another_one_is_not_kept(house: House) -> None:
    house.write(house.raw, FILES, None)

    done = house.run()

    assert done.returncode == 1
    assert "codegen-instruct.json is not the file that the results were made with" in done.stderr
    assert not house.calls()
    assert [path for path in house.data.rglob("*") if path.is_file()] == []


def test_what_cannot_be_fetched_is_named_with_its_place(house: House) -> None:
    done = house.run()

    assert done.returncode == 1
    assert "can't be fetched" in done.stderr
    assert str(house.data / "gpteacher_codegen/codegen-instruct.json") in done.stderr
    assert not house.calls()
    assert [path for path in house.data.rglob("*") if path.is_file()] == []


@with_data
def test_data_that_is_not_there_is_fetched_once(house: House) -> None:
    house.write(house.raw, FILES, DATA)

    done = house.run(SEEDS="4")
    assert done.returncode == 0, done.stderr
    for name in FILES:
        assert (house.data / name).read_bytes() == (DATA / name).read_bytes()

    shutil.rmtree(house.raw)
    assert house.run(SEEDS="4").returncode == 0

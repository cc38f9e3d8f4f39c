"""FIM rows: exact pieces of real files, cleaned, the same for the same corpus and seed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from align.artifacts import Identity, read_shards
from align.benchmark_files import benchmark_rows
from align.chat import encode_text
from align.errors import InputError, TrainingError
from align.evaluation.benchmarks import boundaries
from align.evaluation.benchmarks.boundaries import Gap
from align.fim import RepoContext, complete, run, tokens
from align.fim.complete import cut_at_boundaries
from align.fim.context import Neighbours
from align.fim.formats import encode_fim_row
from align.fim.languages import SYNTAX_LEVELS
from align.settings import FimSettings
from align.stage import Output, Summary
from tests.tiny import TEXT, build_tiny_model
from tests.training_context import QuietContext

CODE = "\n".join(part.split("```")[0] for part in TEXT.split("```python")[1:])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gaps = [(f"def plus_{n}(x):\n    return", f" x + {n}\n", "\nprint(1)\n") for n in range(6)]
    return build_tiny_model(
        tmp_path_factory.mktemp("tiny"), train_on=[("Hi", "Hello")], gaps=gaps, steps=300
    )


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Any:
    return AutoTokenizer.from_pretrained(model)


def own_code(name: str, lines: int = 12) -> str:
    chance = random.Random(name)
    names = ["".join(chance.choices("abcdefghij", k=6)) for _ in range(lines)]
    body = "".join(f"    if {n} > limit:\n        total += {n} * {len(n)}\n" for n in names)
    head = f"import {name}_tools\n\n\ndef {name}(limit, {', '.join(names)}):\n    total = 0\n"
    return f"{head}{body}    return total\n"


def make_corpus(folder: Path, names: str = "abcdef") -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.py").write_text(own_code(name), encoding="utf-8")
    return folder


def cut(
    settings: FimSettings, model: Path, folder: Path, seed: int = 1
) -> tuple[Summary, list[dict[str, Any]]]:
    folder.mkdir()
    out = Output(folder, Identity("fim", "c"))
    summary = run(settings, {"model": model, "corpus": Path()}, out, QuietContext(seed))
    rows = list(read_shards(folder / "rows"))
    assert summary.counts["rows"] == settings.rows == len(rows)
    return summary, rows


def _parts(row: dict[str, Any]) -> list[str]:
    return [row["fim"][name] for name in ("prefix", "middle", "suffix")]


def own(folder: Path, **more: Any) -> FimSettings:
    return FimSettings(corpus=[str(folder)], licences=["NOASSERTION"], **more)


def test_rows_depend_on_corpus_and_seed_alone(model: Path, tokenizer: Any, tmp_path: Path) -> None:
    folder = make_corpus(tmp_path / "src")
    settings = own(
        folder,
        rows=40,
        max_middle_tokens=40,
        max_context_tokens=90,
        wrappers={"raw": 2, "raw_spm": 1, "chatml": 1, "text": 1},
    )
    first, rows = cut(settings, model, tmp_path / "one")
    assert cut(settings, model, tmp_path / "two")[0] == first
    assert cut(settings, model, tmp_path / "three", seed=2)[0].content_sha != first.content_sha
    levels = set()
    for row in rows:
        origin = json.loads(row["origin"])
        data = (folder / origin["path"]).read_bytes()
        start, end = origin["span"]
        fim = row["fim"]
        assert data[start:end].decode() == fim["middle"]
        assert (fim["prefix"] + fim["middle"] + fim["suffix"]).encode() in data
        assert len(encode_text(tokenizer, fim["middle"])) <= 40
        sides = (fim["prefix"], fim["suffix"])
        assert sum(len(encode_text(tokenizer, side)) for side in sides) <= 90
        assert (origin["language"], row["licence"]) == ("python", "NOASSERTION")
        assert encode_fim_row(tokenizer, fim).input_ids
        levels.add(origin["level"])
    assert {row["fim"]["wrapper"] for row in rows} == {"raw", "raw_spm", "chatml", "text"}
    assert len(levels & set(SYNTAX_LEVELS)) > 2
    assert sum(first.details["levels"].values()) == 40


def test_files_that_give_nothing_are_counted_by_their_reason(model: Path, tmp_path: Path) -> None:
    folder = make_corpus(tmp_path / "src")
    (folder / "broken.py").write_text(own_code("broken") + "\n)}](\n")
    (folder / "alike.py").write_text(own_code("a").replace("def a(", "def almost_a("))
    (folder / "latin.py").write_bytes(own_code("latin").encode() + b"# \xe9\n")
    problem = [row for _, row in benchmark_rows("humaneval")][11]
    solution = problem["prompt"] + problem["canonical_solution"]
    (folder / "copied.py").write_text(own_code("copied") + solution)
    summary, rows = cut(own(folder, rows=30, max_middle_tokens=40), model, tmp_path / "out")
    counts = summary.counts
    assert (counts["files"], counts["files_read"], counts["unparsable"]) == (10, 10, 1)
    left_out = summary.details["left_out"]
    assert left_out["contaminated"] > 0
    assert left_out == {"near_duplicate": 1, "not_utf8": 1} | {
        "contaminated": left_out["contaminated"]
    }
    assert {name: counts[name] for name in left_out} == left_out
    assert {entry["kind"] for entry in summary.details["skipped"]} == set(left_out)
    assert "HumanEval/11" in next(
        e["reason"] for e in summary.details["skipped"] if e["kind"] == "contaminated"
    )
    used = {json.loads(row["origin"])["path"] for row in rows}
    assert not {"a.py", "alike.py"} <= used
    body = " ".join(problem["canonical_solution"].split()[:12])
    assert not any(body in " ".join("".join(_parts(row)).split()) for row in rows)
    assert any(json.loads(row["origin"])["path"] == "broken.py" for row in rows)


def test_rows_at_repository_level_hold_other_files_and_no_answer(
    model: Path, tokenizer: Any, tmp_path: Path
) -> None:
    folder = make_corpus(tmp_path / "shop")
    settings = own(folder, rows=12, repository=1.0, max_repository_tokens=200, levels={"line": 1.0})
    _, rows = cut(settings, model, tmp_path / "out")
    for row in rows:
        context = RepoContext.from_json(row["fim"]["context"])
        origin = json.loads(row["origin"])
        assert (context.repo, context.path) == ("shop", origin["path"])
        assert context.files and context.path not in dict(context.files)
        used = sum(len(encode_text(tokenizer, f"{p}\n{text}\n")) for p, text in context.files)
        assert used <= 205  # a few pieces merge otherwise when path and content stand together
        for path, text in context.files:
            assert (folder / path).read_text().startswith(text)


def test_imports_come_first_then_what_is_near() -> None:
    paths = ["app/main.py", "app/views.py", "app/db/models.py", "lib/tools.py", "lib/__init__.py"]
    neighbours = Neighbours("shop", paths)
    data = b"import os\nfrom app.db.models import User\nimport lib\n\nx = 1\n"
    assert neighbours.order("app/main.py", data) == [
        "app/db/models.py",
        "lib/__init__.py",
        "app/views.py",
        "lib/tools.py",
    ]
    twins = Neighbours("shop", ["a/utils.py", "app/utils.py", "app/views.py"])
    near = twins.order("app/views.py", b"from .utils import f\n")
    assert near[0] == "app/utils.py", "of files with one name the nearest is meant"
    pair = Neighbours("c", ["src/foo.c", "src/a.c", "include/foo.h"])
    assert pair.order("src/foo.c", b'#include "foo.h"\n')[0] == "include/foo.h", "never itself"
    go = Neighbours("srv", ["cmd/main.go", "pkg/store.go", "api/http.go", "cmd/flags.go"])
    block = b'import (\n\t"fmt"\n\t"srv/pkg/store"\n)\n'
    assert go.order("cmd/main.go", block)[0] == "pkg/store.go"
    web = Neighbours("web", ["src/a.ts", "src/deep/b.ts", "src/c.ts", "include/d.h", "src/x.c"])
    assert web.order("src/a.ts", b"import { b } from './deep/b';\n")[0] == "src/deep/b.ts"
    spread = b"import {\n  a,\n  b,\n} from './deep/b';\n"
    assert web.order("src/a.ts", spread)[0] == "src/deep/b.ts"
    assert web.order("src/x.c", b'#include "d.h"\n')[0] == "include/d.h"
    given = neighbours.context(
        "app/main.py",
        data,
        "secret_middle_of_the_row()",
        lambda path: (
            None
            if "views" in path
            else f"# {path}\nsecret_middle_of_the_row()\n"
            if "models" in path
            else f"# {path}\n" + "y = 2\n" * 50
        ),
        60,
        len,
    )
    assert given is not None
    assert [path for path, _ in given.files] == ["lib/__init__.py"]
    assert given.files[0][1].startswith("# lib/__init__.py\n") and len(given.files[0][1]) <= 60


def test_too_small_a_corpus_and_a_model_without_tokens_are_errors(
    model: Path, tmp_path: Path
) -> None:
    folder = make_corpus(tmp_path / "src", "a")
    with pytest.raises(InputError, match="asks for 10000 rows"):
        cut(own(folder, rows=10_000), model, tmp_path / "out")
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (model / name).read_text()
        (plain / name).write_text(text.replace("fim_middle", "no_middle"))
    with pytest.raises(TrainingError, match=r"fim\.add_tokens"):
        cut(own(folder, rows=3), plain, tmp_path / "refused")
    cut(own(folder, rows=3, wrappers={"text": 1.0}), plain, tmp_path / "text")


@pytest.mark.parametrize("text_end", ["<|endoftext|>", "<|final|>"])
def test_a_model_without_fim_tokens_gets_them_trained_and_saved(
    model: Path, tokenizer: Any, tmp_path: Path, text_end: str
) -> None:
    plain = build_tiny_model(tmp_path / "plain", train_on=[("Hi", "Hello")], fim=False, steps=60)
    for path in plain.glob("*token*.json"):
        path.write_text(path.read_text().replace("<|endoftext|>", text_end))
    count = 6 if text_end == "<|endoftext|>" else 7  # the end of a text has to be there, too
    folder = make_corpus(tmp_path / "src")
    settings = own(folder, rows=24, add_tokens=True, max_context_tokens=60, max_middle_tokens=20)
    _, rows = cut(settings, plain, tmp_path / "fim")
    (tmp_path / "out").mkdir()
    out = Output(tmp_path / "out", Identity("fim.tokens", "c"))
    inputs = {"model": plain, "rows": tmp_path / "fim" / "rows"}
    summary = tokens.run(settings, inputs, out, QuietContext())
    losses = [point["loss"] for point in summary.details["curve"]]
    assert losses[-1] < losses[0] and summary.counts["tokens_added"] == count
    added = AutoTokenizer.from_pretrained(out.path / "model")
    assert encode_fim_row(added, rows[0]["fim"]).input_ids
    before, after = (
        load_file(place / "model.safetensors") for place in (plain, out.path / "model")
    )
    name = "model.embed_tokens.weight"
    old = len(AutoTokenizer.from_pretrained(plain))
    assert torch.equal(before[name][:old], after[name][:old])
    for row in range(old, old + count):
        assert not torch.equal(before[name][row], after[name][row])
    same = [key for key in before if key != name]
    assert all(torch.equal(before[key], after[key]) for key in same)
    with pytest.raises(InputError, match=r"has the FIM tokens of qwen2\.5-coder: leave it out"):
        tokens.run(settings, {**inputs, "model": model}, out, QuietContext())


# ---------------------------------------------------------------------------------- inference


def test_a_trained_model_fills_a_gap_and_stops(model: Path) -> None:
    assert complete(model, "def plus_3(x):\n    return", "\nprint(1)\n") == " x + 3\n"


WORDS = "and so on " * 40


@pytest.mark.parametrize(
    ("answer", "prefix", "suffix", "middle"),
    [
        ("x + 1", "return ", "\n", "x + 1"),
        ("```python\nx + 1\n```", "return ", "\n", "x + 1\n"),
        ("```python\nreturn x + 1\n```", "return ", "\n", "x + 1\n"),
        ("x + 1\n```\nThis adds one.", "return ", "\n", "x + 1\n"),
        ("    a = 1\n    return a * 2\n", "def f():\n", "    return a * 2\n", "    a = 1\n"),
        ("a = 1\n    return a * 2\nf()", "    ", "\n    return a * 2\n", "a = 1"),
        ("x)", "f(", ")", "x)"),
        ("Sure, here is the code:\n```python\nx + 1\n```\nIt adds.", "return ", "\n", "x + 1\n"),
        ("return a + b\n```python\nprint(1)\n```", "", "\n", "return a + b\n"),
        ("if x is None:\n```\n", "    ", "\n", "if x is None:\n"),
        (
            f"word ({WORDS}\n```\nx\n```",
            "",
            "\n",
            f"word ({WORDS}\n",
        ),
        ("Here it is:\n```\nx + 1\n```", "return ", "\n", "x + 1\n"),
        # a copy is whole lines, and more than one of them
        (
            "    if x is None:\n        return None\n    y = 1\n",
            "def f(x):\n",
            "    return None\n\nf(1)\n",
            "    if x is None:\n        return None\n    y = 1\n",
        ),
        (
            "    for i in xs:\n        a(i)\n",
            "def f(xs):\n",
            "    for i in xs:\n        b(i)\n",
            "    for i in xs:\n        a(i)\n",
        ),
        (
            "    for i in xs:\n        a(i)\n    for i in xs:\n        b(",
            "def f(xs):\n",
            "    for i in xs:\n        b(i)\n",
            "    for i in xs:\n        a(i)\n",
        ),
        ("x + 1)  # sum\nprint(x)\n", "y = (", ")  # sum\nprint(x)\n", "x + 1"),
    ],
)
def test_what_is_not_of_the_gap_is_cut_off(
    answer: str, prefix: str, suffix: str, middle: str
) -> None:
    assert cut_at_boundaries(answer, prefix, suffix) == middle


# -------------------------------------------------------------------------------- boundaries


LINE = Gap("def f(x):\n", "    y = x + 1\n", "    return y * 2\n\nprint(f(1))\n", one_line=True)
SHORT = Gap("y = g(", "x + 1", ")\n\nf(2)\n", one_line=False)
SPAN = Gap("def f(x):\n    y = ", "x + 1\n    z = 2", "\n    return y * z\n", one_line=False)


@pytest.mark.parametrize(
    ("gap", "text", "reason", "wrong"),
    [
        (LINE, "    y = x + 1\n", "stop", []),
        (LINE, "    y = x\n", "stop", []),
        (LINE, "    y = x + 1\n    return y * 2\n", "stop", ["suffix_bleed", "runs_on"]),
        (LINE, "```python\n    y = x + 1\n```", "stop", ["fence", "runs_on"]),
        (LINE, "Here is the line that you need:\n    y = x\n", "stop", ["prose", "runs_on"]),
        (LINE, "    y = x + 1", "length", ["runs_on"]),
        (LINE, "Sure! Here is the code:\n    y = x\n", "stop", ["prose", "runs_on"]),
        (LINE, "Here's the missing line: `y = x`", "stop", ["prose"]),
        (LINE, "this line adds one to the number.", "stop", ["prose"]),
        (LINE, "    here = is_it(the, line) or sure\n", "stop", []),
        (SHORT, "x + 1)\n\nf(2)\n", "stop", ["suffix_bleed"]),
        (SHORT, "(x + 1)", "stop", []),
        (LINE, "    return a if b else c\n", "stop", []),
        (LINE, "    if x is not None and y:\n", "stop", []),
        (LINE, "    ok, err = f(x)\n", "stop", []),
        (LINE, "    explanation = 1\n", "stop", []),
        (SPAN, "x + 1\n    z = 2", "stop", []),
        (SPAN, "x + 1\n    z = 2\n    return y * z\n", "stop", ["suffix_bleed"]),
        (
            Gap('"""', "It Adds one to the number.", '"""\n', False),
            "Adds two to a big number",
            "stop",
            [],
        ),
    ],
)
def test_boundaries_are_measured(gap: Gap, text: str, reason: str, wrong: list[str]) -> None:
    row = {"task_id": "t", "text": text, "finish_reason": reason}
    found = boundaries.measure([row, row], {"t": gap})
    exact = found.pop("exact_match")
    assert [name for name, share in found.items() if share] == [f"{name}_rate" for name in wrong]
    assert exact == (text.rstrip() == gap.middle.rstrip())

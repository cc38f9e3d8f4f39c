"""`align pair` and the verbs under it, and what a published folder holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import load_dataset
from rich.text import Text
from typer.testing import CliRunner

from align import rows as schemas
from align.artifacts import write_json, write_parquet
from align.cli import app
from align.errors import AlignError, ArtifactError, RecipeError
from align.pair_dataset import pair_card
from align.pair_showing import as_text, shown_pairs
from align.tables import read_rows
from tests.pair_rows import BAD, BETTER, GOOD, WORSE, build, judgement, sample, verdict

FAILING = '[{"index":0,"outcome":"accepted","detail":""},{"index":1,"outcome":"wrong_answer",'
FAILING += '"detail":"f(2): 2, expected 3 \\u001b[31m"}]'


def align(*words: str) -> None:
    """Runs the command in this process; raises what it raises."""
    CliRunner().invoke(app, list(words), catch_exceptions=False)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder laid out as a run's, with one round."""
    run = tmp_path / "run"
    rows = {
        ("sample.r1", "samples"): [sample("a", GOOD), sample("b", BETTER), sample("c", BAD)],
        ("verify.r1", "verdicts"): [
            verdict("a", "accepted"),
            verdict("b", "accepted"),
            verdict("c", "wrong_answer", tests=FAILING),
        ],
        ("judge.r1", "judgements"): [
            judgement("a", 5.0, rationale="Plain and short."),
            judgement("b", 2.0, rationale="A long name."),
        ],
    }
    for (stage, name), content in rows.items():
        (run / stage / name).mkdir(parents=True)
        schema = getattr(schemas, name.upper().removesuffix("S"))
        write_parquet(run / stage / name / "shard-00000.parquet", content, schema)
    figures = {"auroc": {"value": 0.75}, "planted": {"value": 0.9}}
    write_json(run / "judge.r1" / "manifest.json", {"details": figures})
    task = {**dict.fromkeys(schemas.TASK.names), "task_id": "t", "licence": "MIT"}
    (run / "data" / "tasks").mkdir(parents=True)
    write_parquet(run / "data" / "tasks" / "shard-00000.parquet", [task], schemas.TASK)
    details = {"decontaminated_against": ["humaneval"]}
    write_json(run / "data" / "manifest.json", {"details": details})
    return run


def pair(run: Path, out: Path) -> None:
    named = {
        "--samples": run / "sample.r1" / "samples",
        "--verdicts": run / "verify.r1" / "verdicts",
        "--judgements": run / "judge.r1" / "judgements",
        "--tasks": run / "data" / "tasks",
        "--out": out,
    }
    align("pair", *(str(word) for item in named.items() for word in item))


def test_pairs_are_made_shown_and_published_by_verbs(tables: Path, tmp_path: Path) -> None:
    pair(tables, tables / "pair.r1")
    table = tables / "pair.r1" / "pairs"
    assert {row["rule"] for _, row in read_rows(table)} == {"exec_strict", "judge_within_accepted"}
    align("pair", "publish", str(table), "--out", str(tmp_path / "published"))
    found = load_dataset(str(tmp_path / "published"), split="train")
    assert found.column_names == schemas.PAIR.names
    assert found.num_rows == 3
    card = (tmp_path / "published" / "README.md").read_text()
    assert card == (tables / "pair.r1" / "README.md").read_text()
    assert "| MIT | 3 |" in card
    assert "checked against: humaneval" in card
    assert "| auroc | value 0.75 |" in card
    assert "| mixed | 1 |" in card
    assert str(tmp_path) not in card


def test_one_file_holds_the_pairs(tables: Path, tmp_path: Path) -> None:
    pair(tables, tmp_path / "pairs.parquet")
    assert len(list(read_rows(tmp_path / "pairs.parquet"))) == 3


def test_pairs_of_one_file_are_published_with_all_that_is_known_of_them(
    tables: Path, tmp_path: Path
) -> None:
    for out in ("folder", "pairs.parquet"):
        pair(tables, tmp_path / out)
    cards = []
    for table in ("folder/pairs", "pairs.parquet"):
        align("pair", "publish", str(tmp_path / table), "--out", str(tmp_path / "published"))
        cards.append((tmp_path / "published" / "README.md").read_text())
    assert cards[0] == cards[1]
    assert "| auroc | value 0.75 |" in cards[1] and "| mixed | 1 |" in cards[1]


def test_what_is_missing_is_named() -> None:
    with pytest.raises(RecipeError, match="needs --samples, --out, and --verdicts"):
        align("pair", "--samples", "s.parquet", "--out", "o")


def shown(table: Path, **wanted: str) -> list[Text]:
    return [as_text(each) for each in shown_pairs(table, 9, **wanted)]


def test_a_pair_is_shown_with_its_difference_the_failing_test_and_the_rationale(
    tables: Path,
) -> None:
    pair(tables, tables / "pair.r1")
    table = tables / "pair.r1" / "pairs"
    ((first, *_), (second,)) = (
        shown(table, rule="exec_strict"),
        shown(table, rule="judge_within_accepted"),
    )
    assert "-    return x\n" in first.plain
    assert "wrong answer, 1 of 4 tests passed" in first.plain
    assert "test 1, wrong answer: f(2): 2, expected 3" in first.plain
    assert "\x1b" not in first.plain, "a test's detail can't steer the terminal"
    assert "-def f(number):\n" in second.plain
    assert "+def f(x):\n" in second.plain
    assert "the judge: Plain and short." in second.plain
    assert "the judge's score 2" in second.plain
    assert shown(table, task="another") == []


def test_a_pair_without_its_tables_is_shown_too(tmp_path: Path) -> None:
    build(
        tmp_path,
        [sample("a", GOOD), sample("b", WORSE)],
        [verdict("a", "accepted"), verdict("b", "runtime_error")],
    )
    (text,) = shown(tmp_path / "out" / "pairs")
    assert "runtime error, 1 of 4 tests passed" in text.plain
    assert "test 1" not in text.plain


def test_an_unknown_pair_is_an_error(tables: Path) -> None:
    pair(tables, tables / "pair.r1")
    with pytest.raises(AlignError, match="holds no such pair"):
        align("pair", "show", str(tables / "pair.r1" / "pairs"), "--task", "none")


def test_a_row_that_is_no_pair_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "q", "chosen": "a"}\n')
    with pytest.raises(AlignError, match=r"pairs\.jsonl:1: a pair needs"):
        align("pair", "publish", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "o"))


def test_a_hub_that_is_not_there_is_explained(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair(tables, tables / "pair.r1")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    table, out = str(tables / "pair.r1" / "pairs"), str(tmp_path / "o")
    with pytest.raises(ArtifactError, match=r"could not be uploaded to me/pairs: no route"):
        align("pair", "publish", table, "--out", out, "--push", "me/pairs")


def test_a_card_of_bare_pairs_says_what_the_pairs_alone_say() -> None:
    card = pair_card([{"task_id": "t", "rule": "exec_strict"}], {})
    assert "| exec_strict | 1 |" in card
    assert "Lengths" not in card
    assert "calibration" not in card

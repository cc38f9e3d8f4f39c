"""Rows are shown as they are trained, in the terminal and as a page."""

import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from align.chat import IGNORED, Tokenizer, encode_chat
from align.showing import as_html, as_text, load_tokenizer, shown_rows
from tests.tiny import build_tiny_model

MESSAGES = [
    {"role": "user", "content": "Add one to x <now> & 🙂"},
    {"role": "assistant", "content": "```python\nx + 1\n```"},
]
FIM = {"prefix": "def f(x):\n    ", "middle": "return x", "suffix": "\n"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Tokenizer:
    return load_tokenizer(model)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"row_id": "t-1", "kind": "chat", "messages": MESSAGES},
        {"prompt": "a", "completion": "b"},
        {"row_id": "f-1", "kind": "fim", "messages": None, "fim": FIM},
        {"prompt": "no answer"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    return path


def test_the_coloured_tokens_are_the_trained_ones(table: Path, tokenizer: Tokenizer) -> None:
    first, second, fim, *_ = shown_rows(table, tokenizer, limit=9, skip=0)
    encoded = encode_chat(tokenizer, MESSAGES)
    assert first.tokens == len(encoded.input_ids)
    assert first.trained == sum(label != IGNORED for label in encoded.labels)
    coloured = [run.text for run in first.runs if run.trained]
    assert coloured == [MESSAGES[1]["content"] + "<|im_end|>"]
    assert [run.text for run in second.runs if run.trained] == ["b<|im_end|>"]
    assert [run.text for run in fim.runs if run.trained] == ["return x<|endoftext|>"]
    terminal = as_text(first)
    (span,) = [span for span in terminal.spans if span.style == "bold green"]
    assert terminal.plain[span.start : span.end] == coloured[0]


def test_a_row_that_cant_be_trained_says_why(table: Path, tokenizer: Tokenizer) -> None:
    *_, unanswered, broken = shown_rows(table, tokenizer, limit=9, skip=0)
    assert "needs `completion`" in as_text(unanswered).plain
    assert "is no JSON" in as_text(broken).plain
    assert broken.place.endswith("rows.jsonl:5")


def test_other_masks_and_wrappers_are_shown_as_they_are_trained(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    rows = [{"messages": [*MESSAGES, *MESSAGES]}, {"fim": FIM | {"wrapper": "chatml"}}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chat, fim = shown_rows(path, tokenizer, limit=2, skip=0, train_on="last_turn_only")
    assert [run.text for run in chat.runs if run.trained] == [MESSAGES[1]["content"] + "<|im_end|>"]
    assert [run.text for run in fim.runs if run.trained] == ["return x<|im_end|>"]


def test_rows_can_be_passed_over(table: Path, tokenizer: Tokenizer) -> None:
    (row,) = shown_rows(table, tokenizer, limit=1, skip=2)
    assert row.title == "f-1 · fim"


def test_the_page_shows_the_same_and_runs_no_text_of_a_row(
    table: Path, tokenizer: Tokenizer
) -> None:
    rows = shown_rows(table, tokenizer, limit=9, skip=0)
    page = as_html(rows, "rows.jsonl")
    marked = [html.unescape(text) for text in re.findall(r"<mark>(.*?)</mark>", page, re.DOTALL)]
    assert marked[1:] == [run.text for row in rows for run in row.runs if run.trained]
    assert "<now>" not in page and "&lt;now&gt; &amp;" in page


def test_control_characters_do_not_steer_the_terminal(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "a\x1b[31m", "completion": "b\x07\r\nc"}))
    (row,) = shown_rows(path, tokenizer, limit=1, skip=0)
    assert not {"\x1b", "\x07"} & set(as_text(row).plain)
    assert "\\x1b[31m" in as_text(row).plain
    assert "b\\x07␍\nc" in as_text(row).plain


def test_the_verb_prints_and_writes_a_page(model: Path, table: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "rows.html"
    command = [sys.executable, "-m", "align.cli", "data", "show", str(table), "--limit", "2"]
    command += ["--train-on", "last_turn_only"]
    command += ["--model", str(model), "--html", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tokens trained" in done.stdout and "x + 1" in done.stdout
    assert page.read_text(encoding="utf-8").count("<section>") == 2

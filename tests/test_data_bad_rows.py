"""Rows that can't be used: each has its reason, none stops another, none vanishes."""

import json
from pathlib import Path
from typing import Any

import pytest

from align.data.chat_rows import chat_fault
from align.errors import InputError
from align.stage import Output
from tests.conftest import RecordingContext
from tests.test_data import chat, stage, table, write


def test_bad_rows_are_counted_and_listed_with_their_place(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    bad = {"messages": [{"role": "assistant", "content": "no question"}]}
    rows = write(tmp_path / "chats.jsonl", [chat("a?", "b."), bad, {}, chat("a?", "b.")])
    summary = stage(output, context, rows, None)
    assert summary.counts["rows"] == 1
    assert summary.counts["bad_row"] == 2
    assert summary.counts["duplicate"] == 1
    assert summary.details["skipped"][0]["place"].endswith("chats.jsonl:2")
    assert {row["kind"] for row in table(output, "dropped")} == {"bad_row", "duplicate"}


EXPECTED = {
    2: "is no JSON: ",
    3: "must be a JSON object, not list",
    4: "is no UTF-8: byte 15 of the line",
    5: "is no JSON: ",
    6: "columns (none) fit no known layout",
    7: "columns text fit no known layout",
    8: "messages must be a non-empty list",
    9: "messages must be a non-empty list",
    10: "messages[0] needs a role of system, user, assistant",
    11: "messages[1] needs a role of system, user, assistant",
    12: "messages[1] calls a tool",
    13: "messages[0] has content in parts",
    14: "messages[1] needs content that is text, not int",
    15: "messages[1] has empty content",
    16: "messages[1] has content that is no Unicode text: half a character at 1",
    17: "there is no answer",
    18: "the last turn is the user's",
    19: "the assistant speaks first",
    20: "one of them speaks twice in a row",
    21: "a system turn stands in the middle",
    22: "an `instruction` needs `output` or `response` beside it",
    23: "instruction must be a text, not list",
    24: "input must be a text, not int",
    25: "the answer must be a text, not dict",
    26: "history[0] must be a pair of question and answer",
    27: "a `prompt` needs `completion` or `response` beside it",
    28: "completion must be a text, not list",
    29: "conversations must be a non-empty list of turns",
    30: "conversations[0] must be an object with `from` and `value`",
    31: "conversations[0] is from 'function_call'",
    32: "conversations[0] needs `value`, a text",
    33: "weight 0 is no positive number",
    34: "weight '2' is no positive number",
    35: "weight inf is not finite",
    36: "checklist must map items to scores",
    37: "checklist has the unknown item beauty",
    38: "checklist.clarity is 'high', which is no number",
    39: "the same messages stand at",
}


def test_every_kind_of_bad_row_gives_its_own_message_and_stops_no_other(
    output: Output, context: RecordingContext
) -> None:
    path = Path(__file__).parent / "bad_rows.jsonl"
    summary = stage(output, context, path, None)
    dropped = {row["place"]: row["reason"] for row in table(output, "dropped")}
    assert set(dropped) == {f"{path}:{line}" for line in EXPECTED}
    for line, reason in EXPECTED.items():
        assert reason in dropped[f"{path}:{line}"]
    kept = {json.loads(row["origin"])["line"] for row in table(output, "rows")}
    assert kept == {"1", "40"}
    (source,) = summary.details["sources"]
    assert source["read"] == 40
    assert source["kept"] + sum(source["dropped"].values()) == 40


def test_a_corrupt_parquet_is_a_clear_error(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 this is no parquet PAR1")
    with pytest.raises(InputError, match=r"rows\.parquet can't be read as parquet"):
        stage(output, context, path, None)


def test_nothing_usable_says_why(tmp_path: Path, output: Output, context: RecordingContext) -> None:
    rows = write(tmp_path / "chats.jsonl", [{"text": "no messages"}])
    with pytest.raises(InputError, match=r"no usable row.*chats\.jsonl:1: columns text fit no"):
        stage(output, context, rows, None)


def test_an_empty_dataset_is_an_error(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    rows = write(tmp_path / "chats.jsonl", [])
    with pytest.raises(InputError, match="the tables are empty"):
        stage(output, context, rows, None)


ODD = [
    {"instruction": "a", "output": "b", "history": 1},
    {"conversations": [{"from": ["human"], "value": "a"}, {"from": "gpt", "value": "b"}]},
    {"prompt": "a", "completion": "b", "weight": 10**400},
    {"prompt": "a", "completion": "b", "source": "\ud800"},
    {"prompt": "a", "\ud800": 1},
]


@pytest.mark.parametrize("row", ODD)
def test_an_odd_row_stops_no_other(
    tmp_path: Path, output: Output, context: RecordingContext, row: dict[str, Any]
) -> None:
    path = write(tmp_path / "a.jsonl", [chat("a?", "b."), row, chat("c?", "d.")])
    summary = stage(output, context, path, None)
    assert (summary.counts["rows"], summary.counts["bad_row"]) == (2, 1)
    (entry,) = table(output, "dropped")
    assert entry["place"].endswith("a.jsonl:2") and entry["reason"]


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "non-empty"),
        ([{"role": "user", "content": "a"}], "assistant last"),
        ([{"role": "tool", "content": "a"}], "role"),
        ([{"role": "user", "content": " "}], "empty content"),
        ([{"role": "system", "content": "a"}], "assistant last"),
    ],
)
def test_chat_faults_are_explained(messages: list[dict[str, str]], fault: str) -> None:
    assert fault in str(chat_fault(messages))

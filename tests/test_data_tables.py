"""Tables of every kind are read row by row, and every layout of a row becomes a conversation."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.data.formats import read_conversation
from align.errors import InputError
from align.tables import read_rows

ROWS: list[dict[str, Any]] = [{"n": 1, "text": "a\nb"}, {"n": 2, "text": "ü🙂"}]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(path)]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(ROWS).replace(b"\n", b"\r\n\r\n"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines(ROWS)))
    (tmp_path / "d.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "e.json").write_bytes(lines(ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "f.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert rows_of(path) == ROWS, path
    assert rows_of(tmp_path) == ROWS * 6


def test_places_are_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"x": {"y": 1}}, {"x": "\n"}, {"x": 3}], indent=2))
    assert [place for place, _ in read_rows(path)] == [f"{path}:{n}" for n in (2, 7, 10)]
    path.write_text('[{"x": 1}, {"x": 2}, 3, {"x": 4},\n{"x": 5}, {"x": 6}]')
    bad: list[str] = []
    places = [place for place, _ in read_rows(path, lambda place, reason: bad.append(place))]
    items = ["1", "1 item 2", "1 item 4", "2", "2 item 2"]
    assert places == [f"{path}:{item}" for item in items], "each row has a place of its own"
    assert bad == [f"{path}:1 item 3"]


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=300), max_size=4), max_size=8),
    st.sampled_from([None, 1, 4]),
    st.booleans(),
)
def test_a_json_list_is_read_whatever_its_layout(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], indent: int | None, plain: bool
) -> None:
    path = tmp_path_factory.mktemp("list") / "a.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=not plain), encoding="utf-8")
    assert rows_of(path) == rows


def test_a_long_json_list_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rows = [{"text": "x" * (n * 997 % 200_000)} for n in range(50)]
    path.write_text(json.dumps(rows))
    assert rows_of(path) == rows


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('[{"a": 1},\n {"a": }]', "a.json:2 is no JSON from here on"),
        ('[{"a": 1},\n {"a": 2}', "a.json:2 ends before its list does"),
        ('[{"a": 1}]\n[{"a": 2}]', "a.json:1 ends its list, and more stands behind it ('[{"),
        ('[{"a": 1}] garbage', "more stands behind it ('garbage')"),
        ('[{"a": 1}]' + " " * 99_999 + "x", "more stands behind it ('x')"),
        ('"text"', "expected a JSON list of objects, or one object a line"),
        ("", "expected a JSON list of objects"),
        ("[1]", "a.json:1 must be a JSON object, not int"),
    ],
)
def test_a_broken_json_file_says_where(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError) as error:
        rows_of(tmp_path / "a.json")
    assert reason in str(error.value)


def test_without_anybody_to_tell_the_first_bad_row_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{broken\n')
    with pytest.raises(InputError, match=r"a\.jsonl:2 is no JSON"):
        rows_of(path)


def test_a_cut_archive_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(lines([{"a": random.random()} for _ in range(999)]))
    path.write_bytes(whole[:2000] + bytes(b ^ 255 for b in whole[2000:2100]) + whole[2100:])
    with pytest.raises(InputError, match=r"a\.jsonl\.gz can't be read"):
        list(read_rows(path))
    path.write_bytes(gzip.compress(lines(ROWS * 100))[:-20])
    with pytest.raises(InputError, match=r"a\.jsonl\.gz can't be read"):
        rows_of(path)


def test_a_folder_without_tables_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(InputError, match="holds no parquet, JSONL or JSON"):
        rows_of(tmp_path)


def test_a_folder_is_read_with_those_in_it_but_for_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/c.jsonl", ".cache/d.jsonl", "a/.e.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(lines([{"name": name}]))
    assert rows_of(tmp_path) == [{"name": "a/c.jsonl"}, {"name": "b.jsonl"}]


@pytest.mark.parametrize("name", ["b.csv", "a/b.json.gz", "b.jsonl.zst", "b.arrow"])
def test_data_that_is_not_read_is_not_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "rows.jsonl").write_bytes(lines(ROWS))
    (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match="of a kind that is not read"):
        rows_of(tmp_path)


def turns(*contents: str, system: str = "") -> list[dict[str, str]]:
    roles = ("user", "assistant") * len(contents)
    found = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]
    return [{"role": "system", "content": system}, *found] if system else found


@pytest.mark.parametrize(
    ("row", "layout", "messages"),
    [
        ({"messages": turns("a", "b")}, "messages", turns("a", "b")),
        ({"messages": turns("a", "b"), "prompt": "a"}, "messages", turns("a", "b")),
        ({"instruction": "a", "output": "b"}, "alpaca", turns("a", "b")),
        ({"instruction": "a", "input": "", "response": "b"}, "alpaca", turns("a", "b")),
        ({"instruction": "a", "input": "<noinput>", "output": "b"}, "alpaca", turns("a", "b")),
        ({"instruction": "a", "input": "x", "output": "b"}, "alpaca", turns("a\n\nx", "b")),
        (
            {"instruction": "c", "output": "d", "history": [["a", "b"]], "system": "s"},
            "alpaca",
            turns("a", "b", "c", "d", system="s"),
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            "sharegpt",
            turns("a", "b"),
        ),
        (
            {"conversations": [{"role": "user", "content": "a"}], "system": "s"},
            "sharegpt",
            turns("a", system="s"),
        ),
        (
            {"prompt": "a", "completion": "b", "messages": None},
            "prompt/completion",
            turns("a", "b"),
        ),
        ({"prompt": "a", "response": "b"}, "prompt/completion", turns("a", "b")),
        (
            {"prompt": turns("a"), "completion": turns("a", "b")[1:]},
            "prompt/completion",
            turns("a", "b"),
        ),
    ],
)
def test_layouts_are_told_apart_and_named(
    row: dict[str, Any], layout: str, messages: list[dict[str, str]]
) -> None:
    found = read_conversation(row)
    assert (found.layout, found.messages) == (layout, messages)

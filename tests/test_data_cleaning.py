"""The parts of cleaning: languages, checklist scores, near-duplicates, mixtures, sets of ids."""

import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align.artifacts import short_id
from align.data.chat_rows import train_row
from align.data.duplicates import DuplicateFinder, Duplicates, shingles, similarity
from align.data.language import NO_CODE, UNKNOWN, tag_language
from align.data.mixing import choose, mix
from align.data.quality import quality_score, read_checklist
from align.data.sides import chat_sides
from align.data.spool import Spool
from align.errors import InputError, RecipeError
from align.idset import IdSet
from align.recipe import parse_settings
from align.settings import CHECKLIST, DataSettings, QualitySettings

JAVA = (
    "class Main {\n  public static void main(String[] args) {\n    System.out.println(1);\n  }\n}"
)
CPP = "#include <iostream>\n\nint main() {\n    std::cout << 1 << std::endl;\n    return 0;\n}"
PYTHON = "import os\n\n\ndef names(path):\n    return sorted(os.listdir(path))\n"
JAVASCRIPT = "function add(a, b) {\n  return a + b;\n}\n\nconsole.log(add(1, 2));"


@pytest.mark.parametrize(
    ("answer", "language"),
    [
        ("Here:\n```python\nx = 1\n```\n", "python"),
        ("Here:\n```C++\nint x;\n```\n", "cpp"),
        ("```sh\nls\n```\nand\n```js\nconsole.log(1); console.log(2);\n```", "javascript"),
        ("```\n" + PYTHON + "```", "python"),
        ("```\nno language at all\n```", UNKNOWN),
        ("```text\nan output\n```", NO_CODE),
        ("It goes like this:\n```python\nx = 1", "python"),
        (PYTHON, "python"),
        (JAVA, "java"),
        (CPP, "cpp"),
        (JAVASCRIPT, "javascript"),
        ("SELECT name FROM users WHERE age > 3 ORDER BY name;", "sql"),
        ("<?php\n$x = 1;\necho $x;\n?>", "php"),
        ("#!/bin/bash\nfor f in *; do\n  echo $f\ndone", "bash"),
        ("You can do it in this way, which is the common one:\n\n" + PYTHON, "python"),
        ("The moon is far away. If you go there, take a coat: it is cold.", NO_CODE),
        ("It costs $500 (or more) for most of us.", NO_CODE),
    ],
)
def test_the_language_is_told_by_fence_then_by_parser(answer: str, language: str) -> None:
    assert tag_language("How?", answer) == language


def test_a_question_with_code_is_no_row_without_code() -> None:
    assert tag_language(f"What does it print?\n\n{JAVASCRIPT}", "3") == "javascript"


@pytest.mark.parametrize(
    "text", ["Abc" + " ,," * 9000, "\n" * 50_000, "Abc " * 9000 + "\0", "def f(" + ")" * 50_000]
)
def test_no_text_makes_the_marks_slow(text: str) -> None:
    began = time.process_time()
    tag_language("", text)
    assert time.process_time() - began < 5


def quality(**more: object) -> QualitySettings:
    return parse_settings(QualitySettings, {"min_score": 0.5, **more}, "test")


def test_the_score_is_the_weighted_mean_of_the_items() -> None:
    scores = {item: float(n) for n, item in enumerate(CHECKLIST)}
    assert len(CHECKLIST) == 9
    assert quality_score(scores, quality()) == 4.0
    weights = {"relevance": 3.0, "clarity": 1.0}
    assert quality_score(scores, quality(weights=weights)) == pytest.approx((3 * 1 + 6) / 4)


def test_what_was_not_scored_has_no_score() -> None:
    scores = read_checklist({"clarity": 3})
    assert quality_score(scores, quality()) is None
    assert quality_score(None, quality()) is None
    assert quality_score(scores, quality(weights={"clarity": 1.0, "style": 0.0})) == 3.0


def test_weights_must_be_of_known_items_and_more_than_nothing() -> None:
    with pytest.raises(RecipeError, match="beauty"):
        quality(weights={"beauty": 1.0})
    with pytest.raises(RecipeError, match="above 0"):
        quality(weights={"clarity": 0.0})


def test_a_source_is_a_path_or_an_entry_of_its_own() -> None:
    content = {"rows": ["a.jsonl", {"path": "b", "weight": 0.5}]}
    first, second = parse_settings(DataSettings, content, "test").rows
    assert (first.path, first.weight) == ("a.jsonl", 1.0)
    assert (second.path, second.weight) == ("b", 0.5)
    again = parse_settings(DataSettings, content, "test").model_dump()
    assert parse_settings(DataSettings, again, "test").rows == [first, second]
    with pytest.raises(RecipeError, match=r"rows\.0\.weigth; did you mean weight"):
        parse_settings(DataSettings, {"rows": [{"path": "a", "weigth": 2}]}, "test")


def duplicates(
    folder: Path, rows: list[tuple[str, str]], threshold: float | None = 0.8
) -> Duplicates:
    spool = Spool(folder / "rows")
    finder = DuplicateFinder(folder, threshold)
    for question, answer in rows:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        row = train_row(turns, {}, "")
        finder.add(row["row_id"], *(side.words for side in chat_sides(turns)))
        spool.add(row)
    try:
        return finder.find(spool)
    finally:
        spool.close()
        assert not list(folder.iterdir())


def test_prompt_and_answer_must_both_be_alike(tmp_path: Path) -> None:
    words = " ".join(f"w{n}" for n in range(50))
    other = " ".join(f"v{n}" for n in range(50))
    rows = [(words, other), (words, words), (other, other), (words + " more", other + " more")]
    assert duplicates(tmp_path, rows).earlier.tolist() == [-1, -1, -1, 0]


def test_equal_rows_are_found_however_short(tmp_path: Path) -> None:
    rows = [("a", "b"), ("a", "b"), ("a", "c"), ("a", "b")]
    for threshold in (None, 0.8):
        found = duplicates(tmp_path, rows, threshold)
        assert found.earlier.tolist() == [-1, 0, -1, 0]
        assert found.similarity.tolist() == [1, 1, 1, 1]


def changed(words: list[str], chooser: random.Random) -> list[str]:
    copy = list(words)
    for _ in range(chooser.randrange(4)):
        copy[chooser.randrange(len(copy))] = f"x{chooser.randrange(10**6)}"
    return copy


def test_near_duplicates_are_those_that_an_exact_comparison_finds(tmp_path: Path) -> None:
    chooser = random.Random(0)
    rows: list[tuple[str, str]] = []
    for number in range(120):
        question = [f"q{number}x{n}" for n in range(40)]
        answer = [f"a{number}x{n}" for n in range(80)]
        for _ in range(4):
            pair = (changed(question, chooser), changed(answer, chooser))
            rows.append((" ".join(pair[0]), " ".join(pair[1])))
    found = duplicates(tmp_path, rows)
    assert 50 < (found.earlier >= 0).sum() < 350
    for row, earlier in enumerate(found.earlier.tolist()):
        near = {
            other
            for other in range(row // 4 * 4, row)
            if found.earlier[other] < 0 and alike(rows[row], rows[other]) >= 0.8
        }
        assert (earlier in near) if earlier >= 0 else not near


def alike(left: tuple[str, str], right: tuple[str, str]) -> float:
    return min(
        similarity(shingles(a.split()), shingles(b.split()))
        for a, b in zip(left, right, strict=True)
    )


@given(
    st.lists(st.sampled_from("abcdefg"), min_size=3),
    st.lists(st.sampled_from("abcdefg"), min_size=3),
)
def test_similarity_is_that_of_the_sets_of_word_trigrams(left: list[str], right: list[str]) -> None:
    sets = [{tuple(words[n : n + 3]) for n in range(len(words) - 2)} for words in (left, right)]
    expected = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    assert similarity(shingles(left), shingles(right)) == pytest.approx(expected)


def ids(count: int) -> np.ndarray:
    return np.array([int(short_id("t", n)[-16:], 16) for n in range(count)], dtype=np.uint64)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0.01, 4)), min_size=1, max_size=4),
    st.integers(0, 5),
)
def test_a_mixture_repeats_every_row_in_full_before_it_repeats_one_again(
    sources: list[tuple[int, float]], seed: int
) -> None:
    sizes = [size for size, _ in sources]
    starts = np.cumsum([0, *sizes])
    members = {str(n): np.arange(starts[n], starts[n + 1]) for n in range(len(sizes))}
    weights = {str(n): weight for n, (_, weight) in enumerate(sources)}
    found = mix(members, weights, ids(int(starts[-1])), seed)
    for name, rows in members.items():
        inside = np.isin(found.rows, rows)
        assert inside.sum() == found.used[name] == round(weights[name] * len(rows))
        uses = np.array([(found.rows == row).sum() for row in rows])
        if len(rows):
            assert uses.max() - uses.min() <= 1
    pairs = list(zip(found.rows.tolist(), found.copies.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    again = mix(members, weights, ids(int(starts[-1])), seed)
    assert np.array_equal(again.rows, found.rows)


def test_the_order_of_a_mixture_mixes_its_sources() -> None:
    members = {"a": np.arange(500), "b": np.arange(500, 1000)}
    rows = mix(members, {"a": 1.0, "b": 1.0}, ids(1000), seed=3).rows
    halves = [(rows[part] < 500).mean() for part in (slice(0, 500), slice(500, 1000))]
    assert all(0.4 < half < 0.6 for half in halves)
    assert not np.array_equal(rows, mix(members, {"a": 1.0, "b": 1.0}, ids(1000), seed=4).rows)


def test_a_row_more_leaves_the_choice_of_others() -> None:
    few, many = choose(ids(100), 50, 0), choose(ids(101), 50, 0)
    assert (few != many[:100]).sum() <= 1


@given(st.lists(st.text(max_size=8)))
def test_a_set_of_ids_is_a_set(names: list[str]) -> None:
    found = IdSet()
    for name in names:
        found.add(name)
    assert len(found) == len(set(names))
    assert all(name in found for name in names)
    assert "not there at all" not in found


def test_a_set_of_ids_grows() -> None:
    found = IdSet()
    for number in range(5000):
        found.add(f"t-{number}")
    assert len(found) == 5000
    assert all(f"t-{number}" in found for number in range(5000))
    assert not any(f"u-{number}" in found for number in range(5000))


def test_a_broken_checklist_is_explained() -> None:
    with pytest.raises(InputError, match="unknown item beauty"):
        read_checklist({"beauty": 1})

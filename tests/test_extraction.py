"""Which text of an answer is its code."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.sampling.extract import extract_code, extract_continuation

ADD = "def add(a, b):\n    return a + b"


def fenced(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}\n```"


@pytest.mark.parametrize("language", ["", "python", "py", "Python", "python3", "python title=x"])
def test_a_python_block_is_found_among_prose(language: str) -> None:
    assert extract_code(f"Here you are:\n{fenced(ADD, language)}\nIt adds.") == ADD


@pytest.mark.parametrize("language", ["bash", "text", "javascript", "json", "diff"])
def test_blocks_in_other_languages_are_not_python(language: str) -> None:
    assert extract_code(f"{fenced('x = 1', language)}\n{fenced(ADD)}") == ADD
    assert extract_code(fenced("x = 1", language)) is None


def test_the_block_with_the_entry_point_wins_over_a_longer_one() -> None:
    example = "values = [add(1, 2), add(3, 4), add(5, 6)]\nprint(values, 'and much more text')"
    assert len(example) > len(ADD)
    answer = f"{fenced(ADD)}\nUse it so:\n{fenced(example)}"
    assert extract_code(answer, "add") == ADD
    assert extract_code(answer) == example


def test_without_an_entry_point_the_longest_and_then_the_last_block_wins() -> None:
    assert extract_code(f"{fenced('a = 1')}\n{fenced(ADD)}\n{fenced('b = 2')}") == ADD
    assert extract_code(f"{fenced('a = 1')}\n{fenced('b = 2')}") == "b = 2"


def test_a_block_that_does_not_parse_is_passed_over() -> None:
    assert extract_code(f"{fenced(ADD)}\n{fenced('def add(a, b: return')}", "add") == ADD
    assert extract_code(fenced("def add(a, b: return"), "add") is None


def test_an_answer_cut_off_inside_its_fence_is_taken_if_it_parses() -> None:
    assert extract_code(f"```python\n{ADD}", "add") == ADD
    assert extract_code(f"```python\n{ADD}\n    if (") is None


def test_a_prefill_that_opened_the_fence_counts() -> None:
    assert extract_code(f"{ADD}\n```\nDone.", "add", prefill="```python\n") == ADD
    assert extract_code(ADD, "add", prefill="Here is the code:\n```python\n") == ADD


def test_bare_code_is_code_and_prose_is_not() -> None:
    assert extract_code(ADD) == ADD
    assert extract_code("x = 1") == "x = 1"
    assert extract_code("Sorry") is None  # parses, as a name
    assert extract_code("I can't do that.") is None
    assert extract_code("") is None
    assert extract_code("```python\n```") is None
    assert extract_code("```python\n# nothing\n```") is None


def test_reasoning_is_left_out() -> None:
    thought = fenced("def add(a, b):\n    return a - b  # a first try, and far longer than needed")
    assert extract_code(f"<think>{thought}</think>\n{fenced(ADD)}", "add") == ADD


def test_fences_in_lists_tildes_and_foreign_line_ends() -> None:
    listed = "1. So:\n   ```python\n   def f():\n       return 1\n   ```\n"
    assert extract_code(listed) == "def f():\n    return 1"
    assert extract_code(f"~~~python\n{ADD}\n~~~") == ADD
    assert extract_code(fenced(ADD).replace("\n", "\r\n")) == ADD


def test_a_longer_fence_holds_a_shorter_one() -> None:
    code = 'TEXT = """\n```\nnot the end\n```\n"""'
    assert extract_code(f"````python\n{code}\n````") == code


def test_an_indented_fence_in_a_docstring_ends_no_block() -> None:
    code = 'def f():\n    """Adds.\n\n    ```\n    f()\n    ```\n    """\n    return 1'
    assert extract_code(fenced(code), "f") == code
    assert extract_code(f"```python\n{ADD}\n   ```\nIt adds.") == ADD, "three blanks are near"


def test_blank_space_in_the_code_stays_as_it_is() -> None:
    code = 'TEXT = """a\n    \n\tb  \n"""'
    assert extract_code(fenced(code)) == code


@pytest.mark.parametrize("text", ["\0", "\ud800", "(" * 5000, "-" * 20000 + "1", "```" * 999])
def test_odd_text_raises_nothing(text: str) -> None:
    extract_code(text)
    extract_code(fenced(text))
    extract_code(f"```python\n{text}", "f", "```")


PIECES = st.sampled_from(
    ["```", "```python\n", "\n", "~~~", "def f():\n", "    return 1\n", "x = 1"]
)


@given(st.lists(PIECES | st.text(max_size=8)).map("".join), st.none() | st.text(max_size=5))
def test_what_comes_out_of_any_text_is_code_of_it(text: str, entry_point: str | None) -> None:
    code = extract_code(text, entry_point)
    if code is not None:
        assert ast.parse(code).body
        for line in code.split("\n"):
            assert line in text.replace("\r\n", "\n").replace("\r", "\n")


def test_a_raw_completion_ends_where_it_stops_being_code() -> None:
    prompt = "def add(a, b):\n"
    assert extract_continuation(prompt, "    return a + b\n") == f"{ADD}\n"
    assert extract_continuation(prompt, "    return a + b\n\ndef other(") == f"{ADD}\n"
    assert extract_continuation(prompt, "    return (a +") is None

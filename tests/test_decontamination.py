"""Decontamination: copies are found whatever their layout, with the problem and the rule."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.data.decontaminate import BenchmarkIndex, Hit
from align.data.definitions import definitions, plain_name
from align.data.sides import sides_of, words_of
from align.errors import InputError

PROMPT = (
    'def halve_all(values, step):\n    """Return half of each of the values, the smallest first, '
    'but leave out what is no multiple of the step."""\n'
)
SOLUTION = "    return sorted(value / 2 for value in values if value % step == 0)\n"
PROBLEM = {
    "task_id": "Made/1",
    "prompt": PROMPT,
    "canonical_solution": SOLUTION,
    "test": "def check(candidate):\n    assert candidate([4, 6, 7], 2) == [2, 3]\n",
    "entry_point": "halve_all",
}


def index(ngram: int = 10, lcs: int | None = 13, **more: Any) -> BenchmarkIndex:
    built = BenchmarkIndex(ngram, lcs, 0.6)
    built.add_problem("made", "Made/1", {**PROBLEM, **more})
    return built


def found(prompt: str, answer: str, built: BenchmarkIndex | None = None) -> list[Hit]:
    return (built or index()).find(sides_of(prompt, answer))


def rules(hits: list[Hit]) -> set[tuple[str, str]]:
    return {(hit.rule, hit.side) for hit in hits}


def test_ten_words_in_a_row_are_found_on_either_side() -> None:
    copied = "the smallest first, but leave out what is no multiple of"
    assert rules(found(copied, "")) == {("ngram", "prompt")}
    (hit,) = found("Well?", f"It says: {copied} something.")
    assert (hit.benchmark, hit.problem, hit.side) == ("made", "Made/1", "answer")
    assert "the smallest first but leave out what is no multiple" in hit.evidence
    assert not found("smallest first, but leave out what is no multiple", "")


@given(st.sampled_from([" ", "\n", "  ", ",\t", " - "]), st.sampled_from([str.upper, str.title]))
def test_layout_and_case_do_not_hide_a_copy(separator: str, case: Any) -> None:
    text = case(separator.join(words_of(PROMPT)))
    assert ("ngram", "prompt") in rules(found(text, ""))


def test_operators_count_as_words_where_blanks_set_them_apart() -> None:
    built = BenchmarkIndex(10)
    built.add_problem("made", "1", {"solution": "while b : a , b = b , a % b"})
    hits = built.find(sides_of("?", "def gcd(a, b):\n    while b : a , b = b , a"))
    assert [hit.evidence for hit in hits] == ["10 words: while b : a , b = b , a"]
    assert not built.find(sides_of("?", "while b: a, b = b, a % b"))


def test_tests_of_a_benchmark_are_found_too() -> None:
    assert ("ngram", "answer") in rules(found("?", PROBLEM["test"]))


def test_a_common_subsequence_is_found_where_no_ten_words_stand_together() -> None:
    words = words_of(PROMPT)
    spread = " ".join(w if n % 8 else f"{w} so" for n, w in enumerate(words))
    assert rules(found(spread, "")) == {("lcs", "prompt")}
    assert not found(spread, "", index(lcs=None))


def test_a_short_common_subsequence_or_a_small_share_is_none() -> None:
    words = words_of(PROMPT)
    twelve = " ".join(f"{w} so" for w in words[:12])
    assert not found(twelve, "")
    thirteen_of_many = " ".join([f"{w} so so" for w in words[:13]])
    assert not found(thirteen_of_many, "")


@pytest.mark.parametrize(
    "code",
    [
        "def halve_all(values, step):",
        "def halve_all(values: list[int], step: int = 2) -> list[float]:",
        "function halveAll(values, step) {",
        "const halveAll = (values, step) => {",
        "func HalveAll(values []int, step int) []int {",
        "List<Double> halveAll(List<Integer> values, int step) {",
    ],
)
def test_a_function_of_the_same_head_is_found(code: str) -> None:
    (hit,) = found("?", code)
    assert hit.rule == "entry_point"
    assert hit.problem == "Made/1"


def test_a_short_name_counts_with_its_parameters_only() -> None:
    assert not found("?", "def halve_all(numbers):")
    assert not found("?", "x = halve_all(values, step)")
    long = index(entry_point="halve_all_of_them")
    assert found("?", "def halve_all_of_them(numbers):", long)


def test_a_benchmark_without_entry_points_is_known_by_what_its_tests_call() -> None:
    built = BenchmarkIndex(10)
    row = {"code": "def tidy(things):\n    return things", "test_list": ["assert tidy([]) == []"]}
    built.add_problem("mbpp", "7", row)
    (hit,) = built.find(sides_of("?", "def tidy(things):\n    return []"))
    assert (hit.rule, hit.problem) == ("entry_point", "7")


def test_each_overlap_is_a_hit_of_its_own() -> None:
    hits = found(PROMPT, PROMPT + SOLUTION)
    assert rules(hits) == {
        (rule, side) for rule in ("ngram", "lcs", "entry_point") for side in ("prompt", "answer")
    }


def test_real_problems_are_found_and_plain_code_is_not() -> None:
    humaneval = BenchmarkIndex(10, 13)
    humaneval.add_benchmark("humaneval")
    copied = (
        "for idx,elem in   enumerate( numbers ):\n\n for idx2, elem2 in enumerate(numbers) : if"
    )
    assert "HumanEval/0" in {hit.problem for hit in found(copied, "", humaneval)}
    assert not found("Sum a list of numbers.", "def total(xs):\n    return sum(xs)", humaneval)


def test_an_unknown_benchmark_is_an_error() -> None:
    with pytest.raises(InputError, match="benchmark nothing"):
        BenchmarkIndex(10).add_benchmark("nothing")


@pytest.mark.parametrize(
    ("code", "head"),
    [
        ("def f(self, a, *, b: dict[str, int] = {}, **c):", "f(a, b, c)"),
        ("fn go<T>(mut x: Vec<T>, y: &str) -> T {", "go(x, y)"),
        ("public static boolean isPrime(final int n) {", "isPrime(n)"),
        ("std::vector<int> twice(const std::vector<int>& xs) {", "twice(xs)"),
        ("def f(a,  # first, one\n      b):  # last", "f(a, b)"),
        ("void f(int a, // one, two\n  int b /* three, four */) {", "f(a, b)"),
        ('def f(url="http://x", n=1):', "f(url, n)"),
        ("const f = async (a, b = (1, 2)) => a", "f(a, b)"),
    ],
)
def test_heads_are_read_in_several_languages(code: str, head: str) -> None:
    assert [str(found) for found in definitions(code)] == [head]


@pytest.mark.parametrize(
    "code",
    [
        "class S {\n  hasCloseElements(numbers, threshold) {\n    return 1\n  }\n}",
        "func (s Solution) HasCloseElements(numbers []float64, threshold float64) bool {",
        "func HasCloseElements[T any](numbers []T, threshold T) bool {",
        "bool Solution::hasCloseElements(vector<float>& numbers, float threshold) {",
        "def has_close_elements[T](numbers: list[T], threshold: T) -> bool:",
    ],
)
def test_methods_and_generic_functions_have_heads_too(code: str) -> None:
    (head,) = definitions(code)
    assert plain_name(head.name) == "hascloseelements"
    assert head.parameters == ("numbers", "threshold")


def test_a_short_question_is_found_where_it_is_asked_word_by_word() -> None:
    built = BenchmarkIndex(10)
    built.add_problem("made", "1", {"prompt": "Reverse the words of a string.", "entry_point": "r"})
    built.add_problem("made", "2", {"prompt": "Sort.", "entry_point": "s"})
    assert rules(found("You help.\n\nReverse the words of a string!", "", built)) == {
        ("ngram", "prompt")
    }
    assert not found("Reverse the words of a string, and say why.", "", built)
    assert not found("Sort.", "", built), "one word is no copy"
    shown = "\nYour code should pass this test:\n\n```python\nassert rev('a b') == 'b a'\n```"
    assert rules(found(f"Reverse the words of a string.{shown}", "", built)) == {
        ("ngram", "prompt")
    }
    messages = [{"role": "user", "content": f"Find the largest of three numbers.{shown}"}]
    built.add_problem("held_out", "3", {"messages": messages, "entry_point": "largest_one"})
    assert rules(found("Find the largest of three numbers.", "max(a, b, c)", built)) == {
        ("ngram", "prompt")
    }


def test_a_call_is_no_definition() -> None:
    assert not list(definitions("return f(a, b); if (x) { g(y) } new Thing(z) {"))


@pytest.mark.parametrize(
    "text",
    [
        "a.b" * 30_000 + " f(",
        "def f(" * 20_000,
        "int x" + " " * 50_000 + "y",
        "int f(a) throws " + "A, " * 20_000,
    ],
)
def test_no_text_makes_the_patterns_slow(text: str) -> None:
    began = time.process_time()
    list(definitions(text))
    assert time.process_time() - began < 5

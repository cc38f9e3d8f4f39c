"""Spans: exact cuts of real files in many languages; syntax levels are nodes of that level."""

from __future__ import annotations

import os
import random
import sysconfig
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tree_sitter import QueryCursor

from align.errors import InputError
from align.fim.filters import fault_of_content
from align.fim.languages import ENDINGS, SYNTAX_LEVELS, endings, level_of, parse, query
from align.fim.spans import LEVELS, SourceText, window
from tests.fim_snippets import SNIPPETS, Snippet

CUTS = 950  # of each language: nine tenths of 12 of them are more than 10,000
ALL = dict.fromkeys(LEVELS, 1.0)
ROOTS = [
    Path(__file__).parent.parent / ".state" / "sources",  # see scripts/test-sources.sh
    Path(sysconfig.get_path("purelib")),
    *map(Path, ("/usr/lib", "/usr/include", "/usr/share", "/usr/src")),
]


def count(text: str) -> int:
    return (len(text.encode()) + 2) // 3


def check_cut(data: bytes, language: str, chooser: random.Random) -> str | None:
    source = SourceText(data, language)
    span = source.pick(chooser, ALL, 64, count)
    if span is None:
        return None
    prefix, middle, suffix = span.cut(data)
    assert (prefix + middle + suffix).encode() == data
    assert middle.strip()
    assert count(middle) <= 64
    before, same, behind = window(data, span, 100, count)
    assert same == middle and prefix.endswith(before) and suffix.startswith(behind)
    assert count(before) + count(behind) <= 100
    assert before == prefix or before == "" or prefix[: -len(before)].endswith("\n")
    if not source.parses:
        assert span.level == "random"
    if span.level in SYNTAX_LEVELS:
        root = parse(language, data)
        assert root is not None
        node = root.named_descendant_for_byte_range(span.start, span.end)
        same_span = []
        while node is not None and (node.start_byte, node.end_byte) == (span.start, span.end):
            same_span.append(level_of(node))
            node = node.parent
        assert span.level in same_span, (span, middle)
    elif span.level in ("line", "lines"):
        assert prefix == "" or prefix.endswith("\n")
        assert suffix == "" or middle.endswith("\n")
        assert (middle.rstrip("\n").count("\n") > 0) == (span.level == "lines")
    return span.level


# ------------------------------------------------------------------------------ own snippets


@pytest.mark.parametrize("language", SNIPPETS)
def test_each_level_of_each_language_finds_what_a_person_would(language: str) -> None:
    snippet: Snippet = SNIPPETS[language]
    data = snippet.text.encode()
    root = parse(language, data)
    assert root is not None
    for level, wanted in zip(SYNTAX_LEVELS, snippet[1:], strict=True):
        if wanted is None:
            continue
        asked = query(language, level)
        assert asked is not None
        nodes = QueryCursor(asked).captures(root)["found"]
        found = [data[n.start_byte : n.end_byte].decode() for n in nodes if level_of(n) == level]
        assert wanted in found, level


def test_every_named_language_has_a_snippet() -> None:
    assert set(SNIPPETS) == set(ENDINGS)
    assert endings(["python", "haskell=.hs, .lhs"]) == {
        ".py": "python",
        ".hs": "haskell",
        ".lhs": "haskell",
    }
    with pytest.raises(InputError, match=r"klingon is not known; known are bash, "):
        endings(["klingon"])
    with pytest.raises(InputError, match="has no parser called klingon"):
        endings(["klingon=.kl"])


CHANGES = {
    "as it is": lambda text: text,
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "tabs": lambda text: text.replace("    ", "\t").replace("  ", "\t"),
    "BOM": lambda text: "\ufeff" + text,
    "no last newline": lambda text: text.rstrip("\n"),
    "not ASCII": lambda text: text.replace("twice", "zweimäl").replace("grow", "größer"),
    "wide": lambda text: text.replace("x", "𝒳"),
    "broken": lambda text: text + "\n)}](\n",
}


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(SNIPPETS)), st.sampled_from(sorted(CHANGES)), st.integers(0, 10_000))
def test_odd_files_are_cut_exactly(language: str, change: str, seed: int) -> None:
    data = CHANGES[change](SNIPPETS[language].text).encode()
    check_cut(data, language, random.Random(seed))


def test_a_file_that_does_not_parse_gives_random_spans() -> None:
    source = SourceText(b"def broken(:\n" + SNIPPETS["python"].text.encode(), "python")
    assert not source.parses
    spans = [source.pick(random.Random(seed), {"line": 1.0}, 64, count) for seed in range(9)]
    assert {span.level for span in spans if span} == {"random"}


def test_levels_come_by_their_weights_and_sizes_are_kept() -> None:
    source = SourceText(SNIPPETS["python"].text.encode() * 30, "python")
    weights = {"expression": 3.0, "line": 1.0, "class": 0.0}
    levels = Counter()
    for seed in range(400):
        span = source.pick(random.Random(seed), weights, 64, count)
        assert span is not None
        levels[span.level] += 1
    assert set(levels) == {"expression", "line"}
    assert 260 < levels["expression"] < 340
    assert source.pick(random.Random(1), {"class": 1.0}, 8, count) is None


@given(st.text(alphabet="ab \n\t\r", max_size=40), st.integers(0, 99))
def test_nothing_but_white_space_is_never_a_middle(text: str, seed: int) -> None:
    span = SourceText(text.encode(), "python").pick(random.Random(seed), ALL, 9, count)
    assert span is None or span.cut(text.encode())[1].strip()


# -------------------------------------------------------------------------------- real files


@cache
def installed_files() -> dict[str, list[Path]]:
    by_ending = endings(ENDINGS)
    found: dict[str, list[Path]] = {language: [] for language in ENDINGS}
    for root in ROOTS:
        for path in sorted(root.rglob("*.*")) if root.is_dir() else ():
            language = by_ending.get(path.suffix)
            if language and len(found[language]) < 4000 and not path.is_symlink():
                found[language].append(path)
    return found


def real_files(language: str) -> list[bytes]:
    """Returns up to 40 installed files; none if no one parses."""
    paths = list(installed_files()[language])
    random.Random(0).shuffle(paths)
    chosen: list[bytes] = []
    for path in paths:
        data = path.read_bytes()
        if fault_of_content(data) in (None, "generated"):
            chosen.append(data)
        if len(chosen) == 40:
            break
    return chosen if any(parse(language, data) for data in chosen) else []


@pytest.mark.slow
@pytest.mark.parametrize("language", sorted(ENDINGS))
def test_real_files_are_cut_exactly(language: str) -> None:
    files = real_files(language)
    if not files:
        pytest.skip(
            f"NO REAL FILE OF {language.upper()} THAT PARSES IS HERE (looked into "
            f"{', '.join(map(str, ROOTS))}): only the snippets of this test suite were cut"
        )
    chooser = random.Random(1)
    levels = Counter(check_cut(files[n % len(files)], language, chooser) for n in range(CUTS))
    levels.pop(None, 0)
    assert levels.total() > 0.9 * CUTS, f"{len(files)} files gave too few spans: {levels}"
    assert len(levels) > 4, levels


@pytest.mark.slow
def test_twelve_languages_have_real_files() -> None:
    there = [language for language in ENDINGS if real_files(language)]
    if len(there) < 12:
        message = f"ONLY {len(there)} LANGUAGES HAVE REAL FILES HERE: {', '.join(there)}"
        if os.environ.get("ALIGN_REQUIRE_SOURCES") == "1":
            pytest.fail(message)
        pytest.skip(message)

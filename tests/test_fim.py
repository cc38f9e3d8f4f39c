"""FIM rows: exact pieces of real files, the same for the same corpus and seed."""

from __future__ import annotations

import json
import random
from email.message import Message
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from align.artifacts import Identity, read_shards
from align.chat import IGNORED
from align.errors import InputError
from align.fim import corpus_sha, encode_fim, encode_fim_prompt, run
from align.fim.corpus import list_corpus, permissive_licence
from align.fim.spans import LEVELS, pick_span
from align.settings import FimSettings
from align.stage import Output
from tests.tiny import TEXT, build_tiny_model
from tests.training_context import QuietContext

CODE = "\n".join(part.split("```")[0] for part in TEXT.split("```python")[1:])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(build_tiny_model(tmp_path_factory.mktemp("tiny")))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(
        [CODE, CODE.replace("\n", "\r\n"), "# é変🙂\n" + CODE, "def broken(:\n" + CODE]
    ),
    st.integers(8, 400),
    st.integers(0, 900),
)
def test_a_span_s_parts_are_a_window_of_the_file(
    seed: int, text: str, max_middle: int, max_context: int
) -> None:
    span = pick_span(text, random.Random(seed), max_middle=max_middle, max_context=max_context)
    if span is None:
        return
    data = text.encode()
    prefix, middle, suffix = span.cut(data)
    assert (prefix + middle + suffix).encode() == data[span.window_start : span.window_end]
    assert middle.strip()
    assert len((prefix + suffix).encode()) <= max_context
    assert span.window_start in (0, span.start) or data[span.window_start - 1 : span.window_start]
    assert span.level in (*LEVELS, "random")
    assert (span.level == "random") == ("broken" in text)


def test_every_level_is_drawn() -> None:
    spans = [
        pick_span(CODE, random.Random(seed), max_middle=300, max_context=900) for seed in range(80)
    ]
    assert {span.level for span in spans if span} == set(LEVELS)
    lines = [span for span in spans if span and span.level == "statement"]
    whole = [span for span in lines if span.cut(CODE.encode())[1].endswith("\n")]
    assert 0 < len(whole) < len(lines), "both whole lines and bare statements are cut"


def test_the_token_format_is_prefix_suffix_middle(tokenizer: Any) -> None:
    row = encode_fim(tokenizer, "def f(x):\n    ", "return x", "\n\nf(1)\n")
    assert tokenizer.decode(row.input_ids) == (
        "<|fim_prefix|>def f(x):\n    <|fim_suffix|>\n\nf(1)\n<|fim_middle|>return x<|endoftext|>"
    )
    trained = [label for label in row.labels if label != IGNORED]
    assert tokenizer.decode(trained) == "return x<|endoftext|>"
    prompt = encode_fim_prompt(tokenizer, "def f(x):\n    ", "\n\nf(1)\n")
    assert row.input_ids[: len(prompt)] == prompt


def test_code_that_names_a_token_does_not_become_it(tokenizer: Any) -> None:
    row = encode_fim(tokenizer, "a = '<|fim_middle|>'", "<|endoftext|>", "<|fim_suffix|>")
    for name in ("<|fim_middle|>", "<|endoftext|>", "<|fim_suffix|>"):
        assert row.input_ids.count(tokenizer.convert_tokens_to_ids(name)) == 1
    with pytest.raises(InputError, match="empty"):
        encode_fim(tokenizer, "a", "", "b")


def _corpus(folder: Path) -> FimSettings:
    for name in ("b", "a", "human_eval_copy"):
        path = folder / "src" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# {name}\n{CODE}", encoding="utf-8")
    (folder / "src" / "latin.py").write_bytes(CODE.encode() + b"\n# \xe9\n")
    return FimSettings(corpus=[str(folder / "src")], rows=12)


def _cut(settings: FimSettings, folder: Path, seed: int = 1) -> tuple[str, list[dict[str, Any]]]:
    folder.mkdir()
    out = Output(folder, Identity("fim", "c"))
    summary = run(settings, {"corpus": Path()}, out, QuietContext(seed))
    assert summary.counts["rows"] == settings.rows
    return summary.content_sha, list(read_shards(folder / "rows"))


def test_rows_depend_on_corpus_and_seed_alone(tmp_path: Path) -> None:
    settings = _corpus(tmp_path)
    first, rows = _cut(settings, tmp_path / "one")
    assert _cut(settings, tmp_path / "two")[0] == first
    assert _cut(settings, tmp_path / "three", seed=2)[0] != first
    for row in rows:
        origin = json.loads(row["origin"])
        data = (tmp_path / "src" / origin["path"]).read_bytes()
        start, end = origin["span"]
        fim = row["fim"]
        assert data[start:end].decode() == fim["middle"]
        assert (fim["prefix"] + fim["middle"] + fim["suffix"]).encode() in data
        assert fim["wrapper"] == "raw"
        assert "human_eval" not in origin["path"]


def test_the_corpus_hash_follows_its_files(tmp_path: Path) -> None:
    settings = _corpus(tmp_path)
    before = corpus_sha(settings)
    assert corpus_sha(settings) == before
    (tmp_path / "src" / "a.py").write_text(CODE + "\n# changed\n", encoding="utf-8")
    assert corpus_sha(settings) != before


def test_too_small_a_corpus_is_an_error(tmp_path: Path) -> None:
    settings = _corpus(tmp_path).model_copy(update={"rows": 10_000})
    with pytest.raises(InputError, match="asks for 10000 rows"):
        _cut(settings, tmp_path / "out")
    with pytest.raises(InputError, match="is no folder"):
        list_corpus(FimSettings(corpus=[str(tmp_path / "nowhere")]))


def _metadata(**fields: str) -> Any:
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return cast(Any, _Optional(message))


class _Optional:
    """Package metadata as importlib gives it: None for a field that is not there."""

    def __init__(self, message: Message) -> None:
        self._message = message

    def __getitem__(self, name: str) -> Any:
        return self._message.get(name)

    def get_all(self, name: str) -> Any:
        return self._message.get_all(name)


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License_Expression": "MIT"}, "MIT"),
        ({"License": "BSD-3-Clause"}, "BSD-3-Clause"),
        ({"Classifier": "License :: OSI Approved :: Apache Software License"}, None),
        ({"License_Expression": "MPL-2.0 AND MIT"}, None),
        ({"License": "GPLv3"}, None),
        ({"License": "LGPL", "Classifier": "License :: OSI Approved :: MIT License"}, None),
        ({"License": "see file"}, None),
        ({}, None),
    ],
)
def test_only_permissive_licences_are_taken(fields: dict[str, str], licence: str | None) -> None:
    if "Classifier" in fields and len(fields) == 1:
        licence = "Apache Software License"
    assert permissive_licence(_metadata(**fields)) == licence


def test_installed_packages_give_files_with_licences() -> None:
    files = list_corpus(FimSettings())
    assert all(file.licence and file.sha for file in files)
    assert not [file for file in files if "human" in file.repo.lower()]
    assert {file.repo.split("==")[0] for file in files} >= {"transformers", "trl"}

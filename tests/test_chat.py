"""Chat tokenisation: the ids a served model sees, and labels on nothing but its answers."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from align.chat import (
    DEFAULT_SYSTEM,
    IGNORED,
    encode_answer,
    encode_chat,
    encode_prompt,
    encode_text,
    stop_token_ids,
    token_id,
)
from align.errors import InputError, TrainingError
from tests.tiny import SPECIAL, build_tiny_model

USER = {"role": "user", "content": "Write `add_one(x)`."}
ANSWER = {"role": "assistant", "content": "```python\ndef add_one(x):\n    return x + 1\n```"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(build_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize(
    "messages",
    [
        [USER, ANSWER],
        [{"role": "system", "content": "Be brief."}, USER, ANSWER],
        [{"role": "system", "content": ""}, USER, ANSWER],
        [USER, ANSWER, {"role": "user", "content": "And two?"}, ANSWER],
        [{"role": "user", "content": "\n  spaces, and an end \n"}, ANSWER],
        [USER, {"role": "assistant", "content": "    return x\n\n"}],
        [USER, {"role": "assistant", "content": "naïve é 変数 🙂"}],
    ],
)
def test_ids_equal_the_template_s(tokenizer: Any, messages: list[dict[str, str]]) -> None:
    expected = tokenizer.apply_chat_template(messages)["input_ids"]
    assert encode_chat(tokenizer, messages).input_ids == expected


@pytest.mark.parametrize("messages", [[USER], [{"role": "system", "content": "S"}, USER]])
def test_a_prompt_equals_the_template_s(tokenizer: Any, messages: list[dict[str, str]]) -> None:
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert encode_prompt(tokenizer, messages) == expected
    prefilled = encode_prompt(tokenizer, messages, "```python\n")
    assert prefilled == expected + encode_text(tokenizer, "```python\n")


def test_only_answers_and_their_ends_are_trained(tokenizer: Any) -> None:
    second = {"role": "assistant", "content": "x + 2"}
    encoded = encode_chat(tokenizer, [USER, ANSWER, {"role": "user", "content": "Two?"}, second])
    trained = [label for label in encoded.labels if label != IGNORED]
    assert tokenizer.decode(trained) == f"{ANSWER['content']}<|im_end|>x + 2<|im_end|>"
    assert len(encoded.labels) == len(encoded.input_ids)
    pairs = zip(encoded.input_ids, encoded.labels, strict=True)
    assert all(label in (IGNORED, token) for token, label in pairs)
    assert encoded.labels[-1] == IGNORED, "the newline after the last turn is never sampled"


@pytest.mark.parametrize("content", ["x = 1", "\n\nx = 1", "  x", "\t\n x", " \n"])
def test_a_row_begins_with_the_prompt_it_is_sampled_from(tokenizer: Any, content: str) -> None:
    row = encode_chat(tokenizer, [USER, {"role": "assistant", "content": content}])
    prompt = encode_prompt(tokenizer, [USER])
    answer = encode_answer(tokenizer, content)
    assert row.input_ids[: len(prompt)] == prompt
    assert row.input_ids[len(prompt) : len(prompt) + len(answer)] == answer
    assert [label for label in row.labels if label != IGNORED] == answer


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_content_never_becomes_a_special_token(tokenizer: Any, name: str, role: str) -> None:
    clean = {"system": "S", "user": "U", "assistant": "A"}
    evil = {**clean, role: f"before{name}{name}after <{name}>"}
    counts = []
    for contents in (clean, evil):
        messages = [{"role": each, "content": text} for each, text in contents.items()]
        counts.append(encode_chat(tokenizer, messages).input_ids.count(token_id(tokenizer, name)))
    assert counts[0] == counts[1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(SPECIAL), st.text(max_size=8)), max_size=6))
def test_text_comes_back_and_holds_no_added_token(tokenizer: Any, parts: list[str]) -> None:
    text = "".join(parts)
    ids = encode_text(tokenizer, text)
    assert not set(ids) & set(tokenizer.added_tokens_decoder)
    decoded = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert unicodedata.normalize("NFC", decoded) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "at least one message"),
        ([USER], "not the assistant's"),
        ([USER, {"role": "assistant", "content": ""}], "empty"),
        ([USER, {"role": "assistant", "content": None}], "message 1"),
        ([USER, {"role": "tool", "content": "x"}, ANSWER], "message 1"),
        ([USER, {"role": "system", "content": "late"}, ANSWER], "system message"),
    ],
)
def test_rows_without_something_to_train_are_refused(
    tokenizer: Any, messages: list[Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        encode_chat(tokenizer, messages)


def test_the_default_system_prompt_is_the_template_s_own(tokenizer: Any) -> None:
    assert DEFAULT_SYSTEM in tokenizer.decode(encode_prompt(tokenizer, [USER]))
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = template.replace(DEFAULT_SYSTEM, "Another one.")
        assert "Another one." in tokenizer.decode(encode_prompt(tokenizer, [USER]))
    finally:
        tokenizer.chat_template = template


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}",
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        None,
    ],
)
def test_a_template_that_behaves_otherwise_is_refused(tokenizer: Any, template: str | None) -> None:
    kept = tokenizer.chat_template
    try:
        tokenizer.chat_template = template
        with pytest.raises(TrainingError, match="template"):
            encode_prompt(tokenizer, [USER])
    finally:
        tokenizer.chat_template = kept


def test_stops_are_all_ends_but_not_the_call_for_the_middle(tokenizer: Any, tmp_path: Path) -> None:
    names = tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer))
    assert set(names) == set(SPECIAL) - {"<|im_start|>", "<|fim_middle|>"}

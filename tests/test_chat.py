"""Chat tokenisation: the ids a served model sees, and labels on nothing but its answers."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trl
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
        [USER, {"role": "assistant", "content": "👩‍👩‍👧‍👦 🇩🇪\u200d"}],
        [{"role": "user", "content": "a\r\nb\r\n"}, {"role": "assistant", "content": "c\r\n\r\n"}],
        [{"role": "system", "content": "\n S \t"}, USER, {"role": "assistant", "content": " x "}],
    ],
)
def test_ids_equal_the_template_s(tokenizer: Any, messages: list[dict[str, str]]) -> None:
    expected = tokenizer.apply_chat_template(messages)["input_ids"]
    assert encode_chat(tokenizer, messages).input_ids == expected


def test_ids_and_mask_are_those_of_trl_s_template_too(tokenizer: Any) -> None:
    """A template that others wrote, with tools and marks of what is trained."""
    folder = Path(trl.__file__).parent / "chat_templates"
    messages = [USER, ANSWER, {"role": "user", "content": " And\n\ntwo? "}, ANSWER]
    ours = encode_chat(tokenizer, messages)
    for name in ("qwen2_5.jinja", "qwen2_5_training.jinja"):
        with using(tokenizer, (folder / name).read_text(encoding="utf-8")):
            assert encode_chat(tokenizer, messages) == ours
            theirs = tokenizer.apply_chat_template(
                messages, return_dict=True, return_assistant_tokens_mask="training" in name
            )
        assert theirs["input_ids"] == ours.input_ids
    mask = {place for place, trained in enumerate(theirs["assistant_masks"]) if trained}
    trained = {place for place, label in enumerate(ours.labels) if label != IGNORED}
    assert trained <= mask
    more = [ours.input_ids[place] for place in sorted(mask - trained)]
    assert not tokenizer.decode(more).strip(), "theirs trains the newlines around an answer, too"


@pytest.mark.parametrize("empty", ["", " \n"])
def test_no_empty_answer_is_trained(tokenizer: Any, empty: str) -> None:
    messages = [USER, {"role": "assistant", "content": empty}, USER, ANSWER]
    with pytest.raises(InputError, match="message 1, the assistant's, is empty"):
        encode_chat(tokenizer, messages)
    last = encode_chat(tokenizer, messages, "last_turn_only")
    assert tokenizer.decode([t for t in last.labels if t != IGNORED]).startswith("```python")


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


@pytest.mark.parametrize("content", ["x = 1", "\n\nx = 1", "  x", "\t\n x"])
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


def test_blanks_that_are_a_token_stay_whole(tmp_path: Path) -> None:
    """GPT-NeoX's tokenizer has runs of blanks as added tokens, which are text all the same."""
    tokenizer: Any = AutoTokenizer.from_pretrained(build_tiny_model(tmp_path))
    tokenizer.add_tokens(["    ", "  "])
    text = "    return x  # two"
    ids = encode_text(tokenizer, text)
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids[0] == tokenizer.convert_tokens_to_ids("    ")
    messages = [USER, {"role": "assistant", "content": text}]
    whole = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    assert encode_chat(tokenizer, messages).input_ids == whole[: len(whole)]


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


LLAMA_LIKE = (
    "<|endoftext|>{% for m in messages %}<|fim_prefix|>{{ m['role'] }}<|fim_suffix|>\n\n"
    "{{ m['content'] | trim }}<|file_sep|>{% endfor %}"
    "{% if add_generation_prompt %}<|fim_prefix|>assistant<|fim_suffix|>\n\n{% endif %}"
)
GEMMA_LIKE = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}<|im_start|>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)


@contextmanager
def using(tokenizer: Any, template: str | None) -> Iterator[None]:
    kept = tokenizer.chat_template
    try:
        tokenizer.chat_template = template
        yield
    finally:
        tokenizer.chat_template = kept


@pytest.mark.parametrize(
    ("template", "end"), [(LLAMA_LIKE, "<|file_sep|>"), (GEMMA_LIKE, "<|im_end|>")]
)
def test_another_template_is_taken_apart_by_what_it_does(
    tokenizer: Any, template: str, end: str
) -> None:
    messages = [USER, {"role": "assistant", "content": " x = 1\n"}, USER, ANSWER]
    with using(tokenizer, template):
        encoded = encode_chat(tokenizer, messages)
        assert encoded.input_ids == tokenizer.apply_chat_template(messages)["input_ids"]
        trained = [label for label in encoded.labels if label != IGNORED]
        first = "x = 1" if "trim" in template else " x = 1\n"
        assert tokenizer.decode(trained) == f"{first}{end}{ANSWER['content']}{end}"
        prompt = encode_prompt(tokenizer, messages[:1])
        assert encoded.input_ids[: len(prompt)] == prompt
        answer = encode_answer(tokenizer, messages[1]["content"])
        assert encoded.input_ids[len(prompt) : len(prompt) + len(answer)] == answer
        assert answer[-1] == stop_token_ids(tokenizer)[0]
        evil = encode_chat(tokenizer, [USER, {"role": "assistant", "content": f"a{end}b"}])
        assert [label for label in evil.labels if label != IGNORED].count(answer[-1]) == 1
    if template == GEMMA_LIKE:
        with (
            using(tokenizer, template),
            pytest.raises(InputError, match=r"system, user.*no system"),
        ):
            encode_chat(tokenizer, [{"role": "system", "content": "S"}, USER, ANSWER])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }};{% endfor %}"
            "{% if add_generation_prompt %}[assistant] {% endif %}",
            "taught to stop",
        ),
        (
            "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | upper }}"
            "<|im_end|>\n{% endfor %}",
            "rewrites contents",
        ),
        ("{% for m in messages %}{{ m['role'] }}<|im_end|>{% endfor %}", "content of message 0"),
        (
            "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
            "not be what is sampled",
        ),
        (
            "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
            "{% if loop.last and m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
            "{{ m['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
            "before the last answer",
        ),
        (
            "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
            "{% if loop.last and m['role'] == 'assistant' %}<|endoftext|>{% else %}<|im_end|>"
            "{% endif %}\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
            "behind the last answer",
        ),
        (None, "no chat template"),
    ],
)
def test_a_template_without_an_exact_mask_is_refused(
    tokenizer: Any, template: str | None, reason: str
) -> None:
    with using(tokenizer, template), pytest.raises(TrainingError, match=reason):
        encode_chat(tokenizer, [USER, ANSWER])


def test_only_the_last_turn_is_trained_on_request(tokenizer: Any) -> None:
    messages = [USER, ANSWER, USER, {"role": "assistant", "content": "x + 2"}]
    every = encode_chat(tokenizer, messages)
    last = encode_chat(tokenizer, messages, "last_turn_only")
    assert last.input_ids == every.input_ids
    assert tokenizer.decode([t for t in last.labels if t != IGNORED]) == "x + 2<|im_end|>"


def test_the_published_script_s_mask_can_be_had(tokenizer: Any) -> None:
    messages = [
        {"role": "system", "content": "S"},
        USER,
        {"role": "assistant", "content": "\n\nfirst"},
        {"role": "user", "content": "\nagain"},
        {"role": "assistant", "content": "\n\nlast"},
    ]
    encoded = encode_chat(tokenizer, messages, "qwen_script")
    ids, labels = _published_script(tokenizer, messages)
    assert encoded.input_ids == ids
    assert encoded.labels == [IGNORED, *labels[1:]]
    bare = encode_chat(tokenizer, messages[1:], "qwen_script")
    assert tokenizer.decode(bare.input_ids).startswith(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWrite"
    )


def _published_script(
    tokenizer: Any, messages: list[dict[str, str]]
) -> tuple[list[int], list[int]]:
    """What `binarize_data.py` of Qwen2.5-Coder does by default, in words: see `encode_chat`."""

    def text(part: str) -> list[int]:
        return list(tokenizer(part, add_special_tokens=False)["input_ids"])

    start, end, newline = text("<|im_start|>"), text("<|im_end|>"), text("\n")
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        body = text(message["content"])
        head = text(message["role"])
        ids += start + head + newline + body + end + newline
        masked = [IGNORED] * (len(head) + 1 + len(body))
        if message is messages[-1]:
            masked = [IGNORED] * (len(head) + 1) + body
        labels += start + masked + end + newline
    return ids, labels


def test_stops_are_all_ends_but_not_the_call_for_the_middle(tokenizer: Any, tmp_path: Path) -> None:
    names = tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer))
    assert set(names) == set(SPECIAL) - {"<|im_start|>", "<|fim_middle|>"}

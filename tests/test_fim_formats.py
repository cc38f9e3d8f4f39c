"""FIM formats, token by token: what stands where, what is trained, and that decoding leads back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from align.chat import IGNORED, encode_text, stop_token_ids
from align.errors import InputError, TrainingError
from align.fim.formats import (
    FAMILIES,
    WRAPPERS,
    RepoContext,
    encode_fim,
    encode_fim_prompt,
    encode_fim_row,
    fim_stop_ids,
    fim_tokens,
)
from tests.tiny import TEXT, build_tiny_model

CONTEXT = RepoContext(
    "shop", "shop/cart.py", (("shop/item.py", "PRICE = 3"), ("README", "Shop.\n"))
)
PREFIX, MIDDLE, SUFFIX = "def f(x):\n    ", "return x", "\n\nf(1)\n"
HEAD = (
    "<|repo_name|>shop\n<|file_sep|>shop/item.py\nPRICE = 3\n<|file_sep|>README\nShop.\n\n"
    "<|file_sep|>shop/cart.py\n"
)
SYSTEM = "<|im_start|>system\nYou are a code completion assistant.<|im_end|>\n<|im_start|>user\n"
PSM = f"<|fim_prefix|>{PREFIX}<|fim_suffix|>{SUFFIX}<|fim_middle|>"
TEMPLATE = "##Context Code##:\n{}\n##Prefix Code##:\n{}\n##Suffix Code##:\n{}\n##Middle Code##:\n"
GOLDEN = {
    ("raw", False): (PSM, "return x<|endoftext|>", ""),
    ("raw", True): (HEAD + PSM, "return x<|endoftext|>", ""),
    ("raw_spm", False): (
        f"<|fim_prefix|><|fim_suffix|>{SUFFIX}<|fim_middle|>{PREFIX}",
        "return x<|endoftext|>",
        "",
    ),
    ("raw_spm", True): (
        f"{HEAD}<|fim_prefix|><|fim_suffix|>{SUFFIX}<|fim_middle|>{PREFIX}",
        "return x<|endoftext|>",
        "",
    ),
    ("chatml", False): (
        f"{SYSTEM}{PSM}<|im_end|>\n<|im_start|>assistant\n",
        "return x<|im_end|>",
        "\n",
    ),
    ("chatml", True): (
        f"{SYSTEM}{HEAD}{PSM}<|im_end|>\n<|im_start|>assistant\n",
        "return x<|im_end|>",
        "\n",
    ),
    ("text", False): (
        f"{SYSTEM}{TEMPLATE.format('', PREFIX, SUFFIX)}<|im_end|>\n<|im_start|>assistant\n",
        "return x<|im_end|>",
        "\n",
    ),
    ("text", True): (
        SYSTEM
        + TEMPLATE.format("shop/item.py\nPRICE = 3\nREADME\nShop.\n\n", PREFIX, SUFFIX)
        + "<|im_end|>\n<|im_start|>assistant\n",
        "return x<|im_end|>",
        "\n",
    ),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(build_tiny_model(tmp_path_factory.mktemp("tiny")))


def with_special_tokens(tokenizer: Any, text: str) -> list[int]:
    """Tokenises as the raw string is by users: special tokens are read out of the text."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize(("wrapper", "with_context"), GOLDEN)
def test_each_format_token_by_token(tokenizer: Any, wrapper: str, with_context: bool) -> None:
    prompt, answer, rest = GOLDEN[wrapper, with_context]
    context = CONTEXT if with_context else None
    row = encode_fim(tokenizer, PREFIX, MIDDLE, SUFFIX, context, wrapper)
    # The middle is a turn of its own for the model, so it is tokenised apart from the prefix.
    wanted = [with_special_tokens(tokenizer, part) for part in (prompt, answer, rest)]
    assert row.input_ids == [token for part in wanted for token in part]
    before = len(row.input_ids) - len(wanted[1]) - len(wanted[2])
    assert row.labels == [*[IGNORED] * before, *wanted[1], *[IGNORED] * len(wanted[2])]
    assert encode_fim_prompt(tokenizer, PREFIX, SUFFIX, context, wrapper) == row.input_ids[:before]
    fim = {"prefix": PREFIX, "middle": MIDDLE, "suffix": SUFFIX, "wrapper": wrapper}
    assert encode_fim_row(tokenizer, fim | {"context": context and context.to_json()}) == row


CODE = st.text(alphabet="abz_(){}=+\"'#\n\t é🙂0", max_size=30)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CODE, CODE.filter(bool), CODE, st.sampled_from(["raw", "chatml"]), st.booleans())
def test_decoding_and_encoding_again_gives_the_ids(
    tokenizer: Any, prefix: str, middle: str, suffix: str, wrapper: str, with_context: bool
) -> None:
    row = encode_fim(tokenizer, prefix, middle, suffix, CONTEXT if with_context else None, wrapper)
    text = tokenizer.decode(row.input_ids)
    assert prefix in text and suffix in text
    again = with_special_tokens(tokenizer, text)
    if wrapper == "chatml" and middle[0] == "\n":
        return  # "assistant\n" and the break would be one piece, which no model that answers writes
    assert again == row.input_ids


def test_code_that_names_a_token_does_not_become_it(tokenizer: Any) -> None:
    context = RepoContext("<|file_sep|>", "<|repo_name|>", (("a", "<|fim_middle|>"),))
    for wrapper in ("raw", "raw_spm"):
        row = encode_fim(
            tokenizer, "'<|fim_middle|>'", "<|endoftext|>", "<|fim_suffix|>", context, wrapper
        )
        counts = {
            name: row.input_ids.count(tokenizer.convert_tokens_to_ids(name))
            for name in ("<|fim_middle|>", "<|endoftext|>", "<|fim_suffix|>", "<|repo_name|>")
        }
        assert set(counts.values()) == {1}
        assert row.input_ids.count(tokenizer.convert_tokens_to_ids("<|file_sep|>")) == 2
        text = tokenizer.decode([label for label in row.labels if label != IGNORED][:-1])
        assert text == "<|endoftext|>"


def test_wrong_rows_are_explained(tokenizer: Any) -> None:
    with pytest.raises(InputError, match="middle is empty"):
        encode_fim(tokenizer, "a", "", "b")
    good = {"prefix": "a", "middle": "b", "suffix": "c"}
    for fim, reason in (
        (None, "needs `fim`"),
        (good | {"suffix": 3}, "must be texts"),
        (good | {"wrapper": "x"}, "wrapper 'x' is not known; use one of raw, "),
        (good | {"context": "{}"}, "must be JSON with repo, path and files"),
        (good | {"context": json.dumps({"repo": "r", "path": "p", "files": [["a"]]})}, "files"),
    ):
        with pytest.raises(InputError, match=reason):
            encode_fim_row(tokenizer, fim)


def test_middles_end_at_every_token_but_the_call_for_one(tokenizer: Any) -> None:
    stops = set(fim_stop_ids(tokenizer))
    assert stops == set(stop_token_ids(tokenizer))
    assert tokenizer.convert_tokens_to_ids("<|fim_middle|>") not in stops


# ---------------------------------------------------------------------------- other families


def other_tokenizer(names: list[str], *, spaced: bool = False, bos: str | None = None) -> Any:
    """A tokenizer with a family's tokens; `spaced` puts a space first, as SentencePiece does."""
    bpe = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False)
    if spaced:
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        bpe.decoder = decoders.Metaspace(prepend_scheme="first")
    else:
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator([TEXT], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=bos)
    tokenizer.add_tokens([AddedToken(name, special=True) for name in names])
    if bos:
        from tokenizers.processors import TemplateProcessing

        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
        )
    return tokenizer


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_found_by_its_tokens(family: Any) -> None:
    tokenizer = other_tokenizer([family.prefix, family.suffix, family.middle, family.end[0]])
    tokens = fim_tokens(tokenizer)
    assert tokens.family == family.name
    row = encode_fim(tokenizer, "def f(x):", "return", "x")
    parts = (family.prefix, "def f(x):", family.suffix, "x", family.middle, "return", family.end[0])
    assert tokenizer.decode(row.input_ids) == "".join(parts)
    assert tokenizer.decode([i for i in row.labels if i != IGNORED]) == "return" + family.end[0]
    with pytest.raises(InputError, match="no repository format"):
        encode_fim(tokenizer, "a", "b", "c", CONTEXT)


def test_codellama_s_inner_parts_get_no_space_and_its_start_stays() -> None:
    names = ["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"]
    tokenizer = other_tokenizer(names, spaced=True, bos="<s>")
    row = encode_fim(tokenizer, "return x", "y + 1", "assert")
    known = tokenizer.convert_tokens_to_ids
    assert row.input_ids[:2] == [known("<s>"), known("▁<PRE>")]
    behind = row.input_ids[row.input_ids.index(known("▁<SUF>")) + 1 :]
    assert tokenizer.convert_ids_to_tokens(behind[0]).startswith("a")
    middle = row.input_ids[row.input_ids.index(known("▁<MID>")) + 1 :]
    assert tokenizer.convert_ids_to_tokens(middle)[0].startswith("y")
    assert (
        encode_text(tokenizer, "return x")
        == row.input_ids[2 : row.input_ids.index(known("▁<SUF>"))]
    )


def test_a_model_without_fim_tokens_is_refused_with_the_way_to_add_them() -> None:
    with pytest.raises(TrainingError, match=r"has no FIM tokens .*`fim.add_tokens: true`"):
        encode_fim(other_tokenizer(["<|endoftext|>"]), "a", "b", "c")
    assert set(WRAPPERS) == {wrapper for wrapper, _ in GOLDEN}

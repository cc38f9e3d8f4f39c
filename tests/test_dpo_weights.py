"""Which tokens of a pair count: by lines, by where the answers differ, by length, at the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from align.chat import encode_answer
from align.dpo.pairs import TokenPair
from align.dpo.weights import token_weights
from align.settings import DpoSettings
from tests.tiny import build_tiny_model

CHOSEN = "def f(x):\n    y = x + 1\n    return y\n"
REJECTED = "def f(x):\n    y = x - 1\n    print(y)\n    return y\n"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(build_tiny_model(tmp_path_factory.mktemp("tiny")))


def encoded(tokenizer: Any, chosen: str, rejected: str) -> TokenPair:
    sides = [encode_answer(tokenizer, text) for text in (chosen, rejected)]
    return TokenPair("p", [1], *sides)


def weighed(tokenizer: Any, ids: list[int], weights: list[float], weight: float) -> str:
    """The text of the tokens that have a weight."""
    return str(tokenizer.decode([i for i, w in zip(ids, weights, strict=True) if w == weight]))


def test_target_leaves_of_the_rejected_answer_its_own_lines(tokenizer: Any) -> None:
    pair = encoded(tokenizer, CHOSEN, REJECTED)
    weights = token_weights(pair, DpoSettings(weighting="target"), tokenizer)
    own = weighed(tokenizer, pair.rejected_ids, weights.rejected, 1.0)
    assert own == "    y = x - 1\n    print(y)\n"
    assert set(weights.chosen) == {1.0}
    assert weights.counted == (len(pair.chosen_ids), sum(map(int, weights.rejected)))


def test_focused_doubles_the_middle_and_drops_the_rejected_end(tokenizer: Any) -> None:
    pair = encoded(tokenizer, CHOSEN, REJECTED)
    weights = token_weights(pair, DpoSettings(weighting="focused", focus=2.0), tokenizer)
    begin, end = "def f(x):\n    y = x", "    return y\n<|im_end|>"
    for ids, side, behind in (
        (pair.chosen_ids, weights.chosen, 1.0),
        (pair.rejected_ids, weights.rejected, 0.0),
    ):
        text = tokenizer.decode(ids)
        middle = weighed(tokenizer, ids, side, 2.0)
        assert text.startswith(begin)
        assert middle in text
        assert middle not in (begin, end)
        assert side[0] == 1.0
        assert side[-1] == behind
    assert "print(y)" in weighed(tokenizer, pair.rejected_ids, weights.rejected, 2.0)
    assert end not in weighed(tokenizer, pair.rejected_ids, weights.rejected, 2.0)


def test_the_end_token_and_what_is_behind_the_shorter_answer(tokenizer: Any) -> None:
    pair = encoded(tokenizer, "x", REJECTED)
    short = len(pair.chosen_ids)
    weights = token_weights(pair, DpoSettings(mask_end=True, ld_alpha=0.25), tokenizer)
    assert weights.chosen == [1.0] * (short - 1) + [0.0]
    behind = len(pair.rejected_ids) - short
    assert weights.rejected == [1.0] * short + [0.25] * (behind - 1) + [0.0]
    assert weights.counted == (short - 1, len(pair.rejected_ids) - 1)


lines = st.lists(st.sampled_from(["a\n", "b\n", "return\n", "x = 1\n"]), max_size=6)


@hypothesis_settings(max_examples=100, deadline=None)
@given(lines, lines)
def test_lines_out_of_the_loss_are_a_common_subsequence_and_none_is_longer(
    tokenizer: PreTrainedTokenizerBase, chosen: list[str], rejected: list[str]
) -> None:
    pair = encoded(tokenizer, "".join(chosen), "".join(rejected))
    weights = token_weights(pair, DpoSettings(weighting="target"), tokenizer)
    kept = weighed(tokenizer, pair.rejected_ids, weights.rejected, 0.0).splitlines()
    chosen, rejected = [*chosen, "<|im_end|>"], [*rejected, "<|im_end|>"]
    rest = iter([line.strip("\n") for line in chosen])
    assert all(line in rest for line in kept), "in the chosen answer's order"

    def longest(one: list[str], other: list[str]) -> int:
        if not one or not other:
            return 0
        if one[0] == other[0]:
            return 1 + longest(one[1:], other[1:])
        return max(longest(one[1:], other), longest(one, other[1:]))

    assert len(kept) == longest(chosen, rejected)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"loss": "robust"}, "label_smoothing"),
        ({"label_smoothing": 0.1}, "label_smoothing"),
        ({"patience": 2}, "held_out"),
        ({"watch_samples": 2}, "held_out"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        DpoSettings.model_validate(settings)

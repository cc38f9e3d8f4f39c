"""What of a server's answer is an answer: one that the model ended, or its cap did."""

from __future__ import annotations

from typing import Any

import pytest

from align.completions import _Fault, _parse


def body(reason: str | None) -> dict[str, Any]:
    choice = {
        "text": "def f",
        "token_ids": [1, 2],
        "logprobs": {"token_logprobs": [-0.5, -0.25]},
        "finish_reason": reason,
    }
    return {"choices": [choice]}


@pytest.mark.parametrize("answer", [body("abort"), body(None), {"choices": []}, {}, []])
def test_what_a_dying_server_says_is_no_answer(answer: Any) -> None:
    with pytest.raises(_Fault, match="not finished"):
        _parse(answer)


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_an_answer_that_ended_is_one(reason: str) -> None:
    found = _parse(body(reason))
    assert (found.finish_reason, found.sum_logprob) == (reason, -0.75)

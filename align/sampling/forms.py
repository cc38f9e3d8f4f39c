"""How a function is asked for: our own chat, two published prompts with a begun answer, raw text.

Each form has a name with a version, texts that stop an answer, and a rule that finds its code. The
words of `qwen` are those of the evaluation code published with Qwen2.5-Coder, those of `evalplus`
EvalPlus's for instruct models. Of their lists of stops each form has those that save the most: an
endpoint takes no more than `MAX_STOPS`. What comes behind the others, the extractor leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from align.sampling.begun import CONTINUATION_EXTRACTOR, PREFILLED_EXTRACTOR
from align.sampling.extract import EXTRACTORS
from align.settings import Block, EvalPrompt

QWEN_SYSTEM = "You are an intelligent programming assistant to produce Python algorithmic solutions"
_QWEN_ASKS = "Can you complete the following Python function?"
_EVALPLUS_ASKS = (
    "Please provide a self-contained Python script that solves the following problem in a markdown "
    "code block:"
)
_EVALPLUS_BEGINS = (
    "Below is a Python script with a self-contained function that solves the problem and passes "
    "corresponding tests:"
)
_FENCE = "```python\n"
_SCRIPT_STOPS = ("\nif __name__", "\nprint(")


@dataclass(frozen=True)
class Form:
    """A way to ask, and to find the code in the answer.

    Attributes:
        key: As in the recipe.
        name: With its version.
        stop: Texts that end an answer.
        extractor: Name and version of the rule that finds the code.
        prefill: How an answer is made to begin.
        block: Which fenced block of an answer it takes; only `own` has a choice.
    """

    key: EvalPrompt
    name: str
    stop: tuple[str, ...]
    extractor: str
    prefill: str = ""
    block: Block = "best"


FORMS: dict[EvalPrompt, Form] = {
    form.key: form
    for form in (
        Form("own", "complete-function/1", (), EXTRACTORS["best"]),
        Form(
            "qwen",
            "qwen2.5-coder-prefill/2",
            (*_SCRIPT_STOPS, "\n#", "\n```"),
            PREFILLED_EXTRACTOR,
            _FENCE,
        ),
        Form(
            "evalplus",
            "evalplus-chat/1",
            (*_SCRIPT_STOPS, "\ndef main(", "\n```\n"),
            PREFILLED_EXTRACTOR,
            f"{_EVALPLUS_BEGINS}\n{_FENCE}",
        ),
        Form("raw", "raw-completion/1", _SCRIPT_STOPS, CONTINUATION_EXTRACTOR),
    )
}


def form_of(prompt: EvalPrompt, block: Block) -> Form:
    """Returns a form by its name, with the rule which block of an answer is taken."""
    form = FORMS[prompt]
    return form if block == "best" else replace(form, block=block, extractor=EXTRACTORS[block])


def conversation(prompt: EvalPrompt, head: str, ask: str) -> list[dict[str, str]]:
    """Returns the messages that ask for an answer in one of the forms of a chat.

    Args:
        prompt: Which form.
        head: What is to be completed: a function's head with its docstring, or a docstring.
        ask: What the user says in our own form.
    """
    if prompt == "own":
        return [{"role": "user", "content": ask}]
    if prompt == "qwen":
        asked = f"{_QWEN_ASKS}\n{_FENCE}{head}\n```\n"
        system = {"role": "system", "content": QWEN_SYSTEM}
        return [system, {"role": "user", "content": asked}]
    asked = f"{_EVALPLUS_ASKS}\n```\n{head.strip()}\n```\n"
    return [{"role": "user", "content": asked}]

"""How a function is asked for: our own chat, two published prompts with a begun answer, raw text.

Each form has a name with a version, texts that stop an answer, and a rule that finds its code. The
words of `qwen` are those of the evaluation code published with Qwen2.5-Coder, those of `evalplus`
EvalPlus's for instruct models. Of their lists of stops each form has those that save the most: an
endpoint takes no more than `MAX_STOPS`. What comes behind the others, the extractor leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from align.artifacts import Row
from align.chat import Tokenizer, encode_text
from align.completions import clean_text
from align.evaluation.benchmarks.base import Problem
from align.evaluation.extraction import (
    CONTINUATION_EXTRACTOR,
    PREFILLED_EXTRACTOR,
    continuation,
    prefilled_block,
)
from align.sampling.extract import EXTRACTORS, extract_code
from align.sampling.prompts import task_prompt
from align.sampling.samples import Prompt
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
#: Behind a completed function, for raw prompts that end in a function's head.
HEAD_STOPS = ("\ndef ", "\nclass ")
#: Behind a program, for raw prompts that are a docstring.
DOCSTRING_STOPS = ('\n"""', "\nassert")


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


@dataclass(frozen=True)
class Question:
    """A function that is asked for.

    Attributes:
        task: Its row of the TASK table, without a prompt.
        place: Where it stands, for messages.
        head: What a base model completes: a function's head with its docstring, or a docstring.
        ask: What the user says in our own form.
        stop: Texts that end a raw completion of this head.
        whole: Completes a program that lacks what the head defines; None where it defines nothing.
    """

    task: Row
    place: str
    head: str
    ask: str
    stop: tuple[str, ...] = HEAD_STOPS
    whole: Callable[[str], str] | None = None


def function_problem(question: Question, form: Form) -> Problem:
    """Returns a question as a problem, put in one of the forms."""
    entry_point = question.task["entry_point"]
    head = clean_text(question.head.strip() + "\n")
    task = dict(question.task)

    def find_code(text: str) -> str | None:
        if form.key == "own":
            code = extract_code(text, entry_point, block=form.block)
        elif form.key == "raw":
            return continuation(head, text, entry_point)
        else:
            code = prefilled_block(text, entry_point)
        return code if code is None or question.whole is None else question.whole(code)

    if form.key == "raw":
        stop = (*form.stop, *question.stop)
        render: Callable[[Tokenizer], Prompt] = partial(_raw, task["task_id"], question.place, head)
    else:
        stop = form.stop
        task["messages"] = _messages(question, form.key)
        render = partial(_chat, question.place, task, form.prefill)

    def rendered(tokenizer: Tokenizer) -> Prompt:
        return replace(render(tokenizer), stop=stop)

    return Problem(task, rendered, find_code, form.extractor)


def _messages(question: Question, prompt: EvalPrompt) -> list[dict[str, str]]:
    """Returns the conversation that asks for an answer."""
    if prompt == "own":
        return [{"role": "user", "content": question.ask}]
    if prompt == "qwen":
        asked = f"{_QWEN_ASKS}\n{_FENCE}{question.head}\n```\n"
        system = {"role": "system", "content": QWEN_SYSTEM}
        return [system, {"role": "user", "content": asked}]
    asked = f"{_EVALPLUS_ASKS}\n```\n{question.head.strip()}\n```\n"
    return [{"role": "user", "content": asked}]


def _chat(place: str, task: Row, prefill: str, tokenizer: Tokenizer) -> Prompt:
    return task_prompt(tokenizer, place, task, prefill)


def _raw(task_id: str, place: str, head: str, tokenizer: Tokenizer) -> Prompt:
    ids = tuple(encode_text(tokenizer, head))
    return Prompt(task_id, place, ids, None, find_code=lambda text: None)

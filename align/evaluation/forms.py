"""A function that is asked for as a problem of a benchmark, in one of the forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from align.artifacts import Row
from align.chat import Tokenizer, encode_text
from align.completions import clean_text
from align.evaluation.benchmarks.base import Problem
from align.sampling.begun import continuation, prefilled_block
from align.sampling.extract import extract_code
from align.sampling.forms import Form, conversation
from align.sampling.prompts import task_prompt
from align.sampling.samples import Prompt

#: Behind a completed function, for raw prompts that end in a function's head.
HEAD_STOPS = ("\ndef ", "\nclass ")
#: Behind a program, for raw prompts that are a docstring.
DOCSTRING_STOPS = ('\n"""', "\nassert")


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
    entry_point = question.task.get("entry_point")
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
        task["messages"] = conversation(form.key, question.head, question.ask)
        render = partial(_chat, question.place, task, form.prefill)

    def rendered(tokenizer: Tokenizer) -> Prompt:
        return replace(render(tokenizer), stop=stop)

    return Problem(task, rendered, find_code, form.extractor)


def _chat(place: str, task: Row, prefill: str, tokenizer: Tokenizer) -> Prompt:
    return task_prompt(tokenizer, place, task, prefill)


def _raw(task_id: str, place: str, head: str, tokenizer: Tokenizer) -> Prompt:
    ids = tuple(encode_text(tokenizer, head))
    return Prompt(task_id, place, ids, None, find_code=lambda text: None)

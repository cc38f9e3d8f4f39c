"""From a task to the token ids that a policy is given."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from align.chat import Tokenizer, encode_prompt, encode_text
from align.completions import clean_text
from align.errors import InputError
from align.sampling.extract import CONTINUATION_EXTRACTOR, extract_code, extract_continuation
from align.sampling.samples import Prompt


def task_prompt(
    tokenizer: Tokenizer,
    place: str,
    task: Mapping[str, Any],
    prefill: str = "",
    instruction: str = "",
) -> Prompt:
    """Renders a task for a policy: a chat where it has messages, else its prompt as raw text.

    Args:
        tokenizer: The policy's.
        place: Where the task stands, for messages.
        task: A row of the TASK table.
        prefill: How the answer to a chat is made to begin.
        instruction: What a chat's last message is to say behind the task.

    Raises:
        InputError: The task has neither, or its messages are no conversation.
    """
    task_id = clean_text(task["task_id"])
    if messages := task.get("messages"):
        try:
            cleaned = [
                {"role": message["role"], "content": clean_text(message["content"])}
                for message in messages
            ]
            if instruction:
                cleaned[-1]["content"] += f"\n\n{clean_text(instruction)}"
            ids = encode_prompt(tokenizer, cleaned, prefill)
        except (InputError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{place}: task {task_id}: bad messages: {error}") from error
        find = partial(extract_code, entry_point=task.get("entry_point"), prefill=prefill)
        return Prompt(task_id, place, tuple(ids), cleaned, find, prefill)
    if not (raw := task.get("prompt")):
        raise InputError(f"{place}: task {task_id} needs messages or a prompt")
    raw = clean_text(raw)
    return Prompt(
        task_id,
        place,
        tuple(encode_text(tokenizer, raw)),
        None,
        partial(extract_continuation, raw),
        extractor=CONTINUATION_EXTRACTOR,
    )

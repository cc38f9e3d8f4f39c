"""Finds the Python code in an answer's text. The rule has a version, which every sample names.

1. Reasoning up to `</think>` is left out.
2. Fenced blocks without a language, or with Python's, are candidates where they parse. A fence that
   the answer never closed (it was cut off) reaches to the end of the text.
3. Among the candidates, those that define the entry point come first; then the longest; then the
   last. An answer that improves on itself or adds an example of use is taken at its fullest.
4. An answer without any fence is code if all of it parses and it defines something.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from align.settings import Block

EXTRACTOR = "entry-or-longest-block/2"
#: Names of the rule by which block it takes.
EXTRACTORS: dict[Block, str] = {
    "best": EXTRACTOR,
    "first": "first-block/2",
    "last": "last-block/2",
}
CONTINUATION_EXTRACTOR = "longest-parsable-lines/1"

_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<marks>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_PYTHON = frozenset({"", "python", "py", "python3", "py3"})
_THINK_END = "</think>"


def extract_code(
    text: str, entry_point: str | None = None, prefill: str = "", block: Block = "best"
) -> str | None:
    """Returns the code of an answer, or None where there is none; raises nothing on any text.

    Args:
        text: What the model wrote.
        entry_point: Name that the code should define.
        prefill: What was written before it on the model's behalf, such as an opening fence.
        block: The best by rule 3, or the first or the last candidate, as other evaluators take.
    """
    whole = (prefill + text).replace("\r\n", "\n").replace("\r", "\n")
    whole = whole.rpartition(_THINK_END)[2]
    blocks = list(_blocks(whole))
    if not blocks:
        code = whole.strip("\n")
        tree = parse(code)
        return code if tree is not None and _defined(tree) else None
    best: str | None = None
    best_rank = (False, -1)
    for code in reversed(blocks) if block == "last" else blocks:
        tree = parse(code)
        if tree is None or not tree.body:
            continue
        if block != "best":
            return code
        rank = (entry_point in _defined(tree), len(code))
        if rank >= best_rank:
            best, best_rank = code, rank
    return best


def extract_continuation(prompt: str, text: str) -> str | None:
    """Returns the code of a raw completion: the prompt and the longest run of lines that parses.

    A base model rarely stops after the function that it was asked for; the half statement at which
    it was cut off is left out.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    for count in range(len(lines), 0, -1):
        code = prompt + "\n".join(lines[:count])
        if (tree := parse(code)) is not None and tree.body:
            return code
    return None


def parse(code: str) -> ast.Module | None:
    """Returns the syntax tree of Python code, None where it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an escape that a string does not know
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _blocks(text: str) -> Iterator[str]:
    """Yields the contents of the fenced blocks that may be Python."""
    marks: str | None = None
    indent = ""  # of a fence inside a list, say; its lines stand as far to the right
    python = False
    lines: list[str] = []
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if marks is None:
            if fence:
                marks, indent = fence["marks"], fence["indent"]
                info = fence["info"].split()
                python = (info[0].lower() if info else "") in _PYTHON
                lines = []
        elif fence and _closes(fence, marks, indent):
            if python:
                yield "\n".join(lines).strip("\n")
            marks = None
        else:
            lines.append(line.removeprefix(indent))
    if marks is not None and python:
        yield "\n".join(lines).strip("\n")


def _closes(fence: re.Match[str], marks: str, indent: str) -> bool:
    """Whether a fence ends a block: one further right is text in it, such as an example.

    By CommonMark three blanks are no further.
    """
    near = len(fence["indent"].expandtabs()) <= len(indent.expandtabs()) + 3
    return near and fence["marks"].startswith(marks) and not fence["info"].strip()


def _defined(tree: ast.Module) -> set[str | None]:
    """Returns the names that a module binds at its top level by definitions and assignments."""
    names: set[str | None] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(target.id for target in targets if isinstance(target, ast.Name))
    return names

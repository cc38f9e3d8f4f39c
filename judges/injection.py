"""The second look: does the score stand on the code, or on what the code says about itself?

Comments and docstrings are where a candidate can talk to the judge at no cost to its behaviour. A
judgement whose score falls by more than a threshold when they are taken out is flagged. A fall
alone counts: text that lowers its own grade is no attack. Strings and names that the program uses
stay, so pleas in them are not caught here; the fence and the constrained label stand against those.
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings

# A hostile source can be too deep for the parser (MemoryError, RecursionError) or hold null bytes
# (ValueError). Such code does not run either, and has no second view.
_UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError)


def strip_comments(code: str, language: str = "python") -> str | None:
    """Returns the code without comments, docstrings and strings that nothing uses.

    Args:
        code: Source text; it is parsed, never run.
        language: Only `python` is known.

    Returns:
        The stripped code in `ast.unparse`'s layout, or None where there is nothing to take out or
        no way to (another language, code that does not parse).
    """
    if language != "python":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(code)
        tokens = tokenize.generate_tokens(io.StringIO(code).readline)
        commented = any(token.type == tokenize.COMMENT for token in tokens)
        stripper = _DeadStrings()
        tree = stripper.visit(tree)
        return ast.unparse(tree) if commented or stripper.found else None
    except _UNPARSABLE:
        return None


class _DeadStrings(ast.NodeTransformer):
    """Puts `pass` in the place of string statements (docstrings are the first of them)."""

    def __init__(self) -> None:
        self.found = False

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        value = node.value
        # An f-string that computes nothing is dead too; one that does may call something.
        parts = value.values if isinstance(value, ast.JoinedStr) else [value]
        if not all(isinstance(p, ast.Constant) and isinstance(p.value, str | bytes) for p in parts):
            return node
        self.found = True
        return ast.Pass()

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list) and len(body) > 1:
                kept = [entry for entry in body if not isinstance(entry, ast.Pass)]
                setattr(node, name, kept or body[:1])
        return node

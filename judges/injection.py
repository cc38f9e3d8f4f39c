"""The second look: does the score stand on the code, or on what the code says about itself?

Comments and docstrings are where a candidate can talk to the judge at no cost to its behaviour;
long names and long texts come next. A judgement whose score falls by more than a threshold when
they are taken out is flagged. A fall alone counts: text that lowers its own grade is no attack.
Short names and strings stay, so pleas in them are not caught here; the fence and the constrained
label stand against those.
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings

# A hostile source can be too deep for the parser (MemoryError, RecursionError) or hold null bytes
# (ValueError). Such code does not run either, and has no second view.
_UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)

# What a statement is made of that neither computes nor names anything.
_CONSTANT = (
    ast.Constant,
    ast.JoinedStr,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.BinOp,
    ast.UnaryOp,
    ast.operator,
    ast.unaryop,
    ast.expr_context,
)

# A name of more characters, or of as many words, says something to a reader that code need not say.
_LONG_NAME = 40
_WORDS = 6
_LONG_TEXT = 60
_TEXT = "..."


def second_view(code: str, language: str = "python") -> str | None:
    """Returns the code without comments, docstrings, unused strings, long names and long texts.

    Args:
        code: Source text; it is parsed, never run.
        language: Only `python` is known.

    Returns:
        The stripped code in `ast.unparse`'s layout, or None where there is nothing to take out or
        no way to (another language, code that does not parse).

    Raises:
        RecursionError: The code runs, but nests too deep to be taken apart.
    """
    if language != "python":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(code)
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (*_UNPARSABLE, tokenize.TokenError):
        return None
    commented = any(token.type == tokenize.COMMENT for token in tokens)
    stripper, shortener = _DeadStrings(), _Shortener()
    tree = shortener.visit(stripper.visit(tree))
    if not (commented or stripper.found or shortener.found):
        return None
    return ast.unparse(tree)


class _DeadStrings(ast.NodeTransformer):
    """Puts `pass` in the place of statements of constants that hold text: docstrings, mostly."""

    def __init__(self) -> None:
        self.found = False

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        parts = list(ast.walk(node.value))
        texts = (each.value for each in parts if isinstance(each, ast.Constant))
        # An f-string that computes nothing is dead too; one that does may call something.
        if not all(isinstance(each, _CONSTANT) for each in parts) or not any(
            isinstance(text, str | bytes) for text in texts
        ):
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


class _Shortener(ast.NodeTransformer):
    """Gives long names short ones, one for each, and cuts long texts."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self.found = False

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str | bytes) and len(node.value) > _LONG_TEXT:
            self.found = True
            text = _TEXT if isinstance(node.value, str) else _TEXT.encode()
            return ast.copy_location(ast.Constant(text), node)
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("id", "name", "attr", "arg", "asname", "rest", "names", "kwd_attrs"):
            name = getattr(node, field, None)
            # An imported module has the name that it has.
            if isinstance(name, str) and not (field == "name" and isinstance(node, ast.alias)):
                setattr(node, field, self._short(name))
            elif isinstance(name, list):  # of `global`, `nonlocal` and patterns
                short = [self._short(each) if isinstance(each, str) else each for each in name]
                setattr(node, field, short)
        return node

    def _short(self, name: str) -> str:
        if len(name) <= _LONG_NAME and len(name.strip("_").split("_")) < _WORDS:
            return name
        self.found = True
        return self._names.setdefault(name, f"name_{len(self._names) + 1}")

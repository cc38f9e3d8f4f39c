"""Languages by name and file ending, their parsers, and what their syntax nodes are.

Levels are told by the names of node types, which grammars choose alike, so that a language that is
not listed here works too, as far as the pack parses it: `haskell=.hs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, cast

from tree_sitter import Language, Node, Parser, Query
from tree_sitter_language_pack import get_language

from align.errors import InputError

#: File endings of the languages that need no more than their name.
ENDINGS: Mapping[str, tuple[str, ...]] = {
    "bash": (".sh", ".bash"),
    "c": (".c", ".h"),
    "c_sharp": (".cs",),
    "cpp": (".cpp", ".cc", ".cxx", ".hpp", ".hh", ".hxx", ".cuh", ".cu"),
    "go": (".go",),
    "java": (".java",),
    "javascript": (".js", ".mjs", ".cjs", ".jsx"),
    "kotlin": (".kt", ".kts"),
    "lua": (".lua",),
    "php": (".php",),
    "python": (".py",),
    "ruby": (".rb",),
    "rust": (".rs",),
    "scala": (".scala", ".sc"),
    "tsx": (".tsx",),
    "typescript": (".ts", ".mts", ".cts"),
}

_NAMES_IN_PACK = {"c_sharp": "csharp"}

SYNTAX_LEVELS = ("expression", "statement", "block", "function", "class")

_CONTROL = (
    r"if|elif|else_if|elseif|elsif|else|unless|for|foreach|enhanced_for|c_style_for|while|until"
    r"|loop|do|do_while|repeat|try|try_with_resources|catch|except|rescue|finally|ensure|with"
    r"|switch|match|case|when|select|lock|using|fixed|checked|synchronized|unsafe|begin|seh_\w+?"
)
_STATEMENT = re.compile(
    r"\w+_statement|(local_variable|lexical|variable|short_var|let|const|var|property|field)"
    r"_declaration|declaration|assignment|operator_assignment|(val|var)_definition|jump_expression"
    r"|(if|unless|for|while|until|loop|do_while|try|match|when|unsafe)_expression"
    r"|(if|unless|while|until|rescue)_modifier|if|unless|while|until|for|case|begin"
    r"|command|pipeline|variable_assignment"
)
_NO_STATEMENT = re.compile(r"(compound|body|empty|else|elseif)_statement")
_EXPRESSION = re.compile(
    r"\w+_expression|(binary|boolean|comparison|not|unary)_operator|binary|unary|conditional"
    r"|(method_|function_|macro_)?(call|invocation)|array_access|field_access|element_reference"
    r"|subscript|lambda|func_literal|composite_literal|initializer_list|table_constructor"
    r"|tuple|list|set|dictionary|hash|object|array|array_initializer|\w+_comprehension"
    r"|await|command_substitution|test_command"
)
_NO_EXPRESSION = re.compile(rf"({_CONTROL}|jump|assignment|template|parenthesized)_expression")
_BODY = re.compile(
    r"block|compound_statement|statement_block|body_statement|then|do|do_group|do_block"
    r"|control_structure_body|(function|constructor|class|enum_class|interface|enum|template)_body"
    r"|annotation_type_body|(field_|enum_|enum_member_)?declaration_list|enum_variant_list"
    r"|enumerator_list|match_block|switch_(body|block)|case_block|indented_(block|cases)"
    r"|object_type"
)
_BODY_OF_CONTROL = re.compile(
    rf"({_CONTROL})(_(statement|expression|clause|block|loop|group|modifier|entry|arm|case))*"
    r"|for_range_loop"
)
_BODY_OF_FUNCTION = re.compile(
    r"(\w+_)?(function|method|constructor|destructor|lambda|closure|accessor|operator)"
    r"(_(declaration|definition|item|expression|statement|literal|creation_expression))*"
    r"|func_literal|anonymous_method_expression|getter|setter|singleton_method"
)
_BODY_OF_CLASS = re.compile(
    r"(\w+_)?(class|interface|struct|enum|trait|impl|record|object|union|annotation_type)"
    r"(_(declaration|definition|item|specifier|type))?|module|companion_object"
)


def endings(names: Iterable[str]) -> dict[str, str]:
    """Returns the language of each file ending.

    Args:
        names: Languages of `ENDINGS`, or `NAME=.ending,.ending` with a name of the language pack.

    Raises:
        InputError: A language is not known, or no parser is there for it.
    """
    found = {}
    for text in names:
        name, given, dotted = text.partition("=")
        own = tuple(ending.strip() for ending in dotted.split(",")) if given else ENDINGS.get(name)
        if own is None or any(not ending.startswith(".") for ending in own):
            raise InputError(
                f"fim.languages: {text} is not known; known are {', '.join(ENDINGS)}, and any "
                "other of tree-sitter-language-pack is written with its file endings, as in "
                "haskell=.hs"
            )
        _language(name)
        found.update(dict.fromkeys(own, name))
    return found


def parse(language: str, data: bytes) -> Node | None:
    """Returns the root of a file's syntax tree, None where the file has a syntax error."""
    root = _parser(language).parse(data).root_node
    return None if root.has_error else root


def level_of(node: Node) -> str | None:
    """Returns the level that a node is a middle of, None where it is of none."""
    kind = node.type
    if _BODY.fullmatch(kind):
        parent = node.parent.type if node.parent else ""
        if _BODY_OF_FUNCTION.fullmatch(parent):
            return "function"
        if _BODY_OF_CLASS.fullmatch(parent):
            return "class"
        if _BODY_OF_CONTROL.fullmatch(parent):
            return "block"
        if not _statement(kind):
            return None
    if _statement(kind):
        return "statement"
    return "expression" if _expression(kind) else None


@cache
def query(language: str, level: str) -> Query | None:
    """Returns a query for the nodes that may be of a level; None where the language has none."""
    match = {"statement": _statement, "expression": _expression}.get(level, _BODY.fullmatch)
    grammar = _language(language)
    kinds = {
        cast(str, grammar.node_kind_for_id(number))
        for number in range(grammar.node_kind_count)
        if grammar.node_kind_is_named(number) and grammar.node_kind_is_visible(number)
    }
    wanted = sorted(kind for kind in kinds if match(kind))
    if not wanted:
        return None
    return Query(grammar, "[" + " ".join(f"({kind})" for kind in wanted) + "] @found")


def _statement(kind: str) -> bool:
    return bool(_STATEMENT.fullmatch(kind)) and not _NO_STATEMENT.fullmatch(kind)


def _expression(kind: str) -> bool:
    return bool(_EXPRESSION.fullmatch(kind)) and not _NO_EXPRESSION.fullmatch(kind)


@cache
def _language(name: str) -> Language:
    try:
        return get_language(cast(Any, _NAMES_IN_PACK.get(name, name)))
    except LookupError as error:
        raise InputError(
            f"fim.languages: tree-sitter-language-pack has no parser called {name}"
        ) from error


@cache
def _parser(language: str) -> Parser:
    return Parser(_language(language))

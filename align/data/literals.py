"""Values as Python source, the same text in every process."""

from __future__ import annotations

import math
from typing import Any

_PLAIN = (type(None), bool, int, float, str, bytes)


def as_literal(value: Any) -> str:
    """Returns the literal that stands for a plain value; a set's elements in one order always.

    Raises:
        ValueError: There is none, or it is an integer too long to write.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} has no literal")
    if type(value) in _PLAIN:
        return repr(value)
    if type(value) is dict:
        return f"{{{', '.join(f'{as_literal(k)}: {as_literal(v)}' for k, v in value.items())}}}"
    if type(value) is set and value:
        return f"{{{', '.join(sorted(map(as_literal, value)))}}}"
    if type(value) is list:
        return f"[{', '.join(map(as_literal, value))}]"
    if type(value) is tuple:
        items = ", ".join(map(as_literal, value))
        return f"({items},)" if len(value) == 1 else f"({items})"
    raise ValueError(f"a {type(value).__name__} has no literal")

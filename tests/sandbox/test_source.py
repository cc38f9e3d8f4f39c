"""Sources are parsed from many threads."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.source import parse

SOURCE = "\n".join(f"def f{n}(a):\n    return [x * 2 for x in a if x > {n}]" for n in range(40))


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads change at every chance, in the middle of a tree, too: a collection runs Python."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()

    def run_python(phase: str, info: dict[str, int]) -> None:
        [number for number in range(50)]

    sys.setswitchinterval(1e-6)
    gc.set_threshold(1)
    gc.callbacks.append(run_python)
    try:
        yield
    finally:
        gc.callbacks.remove(run_python)
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)


def test_threads_do_not_disturb_each_other(restless: None) -> None:
    with ThreadPoolExecutor(4) as threads:
        trees = list(threads.map(parse, [SOURCE] * 120))
    assert all(len(tree.body) == 40 for tree in trees)


@pytest.mark.parametrize("source", ["def", "x = '\0'", "(" * 10_000])
def test_what_is_no_python_is_said(source: str) -> None:
    with pytest.raises((SyntaxError, ValueError, RecursionError, MemoryError)):
        parse(source)

"""Makes tasks with tests out of instructions that are answered by a Python function.

Nobody wrote tests for them, but the answer is code: it is run on inputs like those of its own
example, in the sandbox, and what it returns is expected from then on. Pure but for `stage`:
`functions` reads a row, `inputs` makes more inputs, `mutants` makes wrong programs, and `choosing`
takes the calls that tell those from the right one.
"""

from align.making.stage import run

__all__ = ["run"]

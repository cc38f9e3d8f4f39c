"""Outcome classes: which verdicts say something about a program, and which say it is better."""

from __future__ import annotations

from enum import IntEnum


class OutcomeClass(IntEnum):
    """What running a sample showed, the best first; inside a class passed tests count.

    A limit stands behind a crash: what ran out of time may have been right, and says least.
    """

    ACCEPTED = 0
    WRONG_ANSWER = 1
    RUNTIME_ERROR = 2
    LIMIT = 3
    NO_PROGRAM = 4


_CLASSES = {
    "accepted": OutcomeClass.ACCEPTED,
    "wrong_answer": OutcomeClass.WRONG_ANSWER,
    "runtime_error": OutcomeClass.RUNTIME_ERROR,
    "time_limit": OutcomeClass.LIMIT,
    "memory_limit": OutcomeClass.LIMIT,
    "output_limit": OutcomeClass.LIMIT,
    "compile_error": OutcomeClass.NO_PROGRAM,
    "no_code": OutcomeClass.NO_PROGRAM,
}

NOT_EXECUTED = "not_executed"
"""The outcome of a sample whose task has no tests: only a judge can order it."""

TAMPERED = "tampered"
"""The outcome of a sample that forged a result."""


def class_of(outcome: str) -> OutcomeClass | None:
    """Returns the class of a verdict's outcome, or None where it may enter no pair.

    `infra_error`, `flaky` and `invalid_task` say nothing of the program, and `tampered` nothing
    that should be learnt by contrast. An outcome that is not known here is in no class either.
    """
    return _CLASSES.get(outcome)

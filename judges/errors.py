"""The errors of judges: one root, and the faults of a single request by the status they end in."""

from __future__ import annotations

from judges.judgement import Status


class JudgeError(Exception):
    """A judge that can't work as it is set up: nothing that a single candidate could cause.

    Faults of one request are not raised to the caller; they become a `Judgement` whose status says
    what happened.
    """


class RequestFault(Exception):
    """One request that brought no usable answer; the judgement ends in `status`.

    Attributes:
        status: Never `ok`.
        detail: One sentence: what happened.
    """

    def __init__(self, status: Status, detail: str) -> None:
        """Makes the fault of one request."""
        super().__init__(detail)
        self.status = status
        self.detail = detail

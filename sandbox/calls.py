"""Calls of a program's function whose values nobody judges: a job, and what its reports say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox import protocol, values
from sandbox.grade import clean, make_job
from sandbox.limits import Limits
from sandbox.task import parse_task

#: Of one call's value; all values of a job are held at once.
MAX_CALLED_BYTES = 64 * 1024


@dataclasses.dataclass(frozen=True)
class Called:
    """What one call of a program's function did.

    Attributes:
        status: ``value``; or ``not_run``, behind calls that were ended; or that of a test which
            returned nothing (``raised``, ``time_limit``, ``too_long``, ...).
        value: what it returned, in the tagged encoding.
        detail: why it returned nothing.
        cpu_ms: CPU time that it took.
    """

    status: str
    value: Any = None
    detail: str = ""
    cpu_ms: float = 0.0


def _called(report: Mapping[str, Any]) -> Called:
    """Return what one call of a job did, from its report."""
    status, detail = str(report["status"]), clean(str(report.get("detail", "")))
    value = report.get("value") if status == "value" else None
    try:
        values.decode(value)
        if value is not None and len(protocol.pack(value)) > MAX_CALLED_BYTES:
            status, value, detail = "too_long", None, f"more than {MAX_CALLED_BYTES} bytes"
    except protocol.ProtocolError as error:
        status, value, detail = "tampered", None, str(error)
    except values.Uncrossable as error:
        status, value, detail = "uncrossable", None, str(error)
    if "wall_ms" not in report and detail.startswith("not run"):
        status = "not_run"
    return Called(status, value, detail, float(report.get("cpu_ms", 0.0)))


def calls_job(
    code: str, entry_point: str, arguments: Sequence[Sequence[Any]], limits: Limits
) -> dict[str, Any]:
    """Return the message that makes the calls; raises TaskError for a value in no encoding."""
    cases = [{"args": list(each), "expected": None} for each in arguments]
    tests = {"kind": "calls", "cases": cases}
    row = {"task_id": "call", "entry_point": entry_point, "tests": tests}
    return make_job(parse_task(row), code, limits)


def keep_call(job: Mapping[str, Any], index: int, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a report, as it comes; raises ProtocolError for one too many."""
    if index >= job["count"]:
        raise protocol.ProtocolError("the slot reported more calls than there are")
    return {"called": _called(report), "wall_ms": report.get("wall_ms", 0.0)}


def read_calls(job: Mapping[str, Any], reply: Mapping[str, Any]) -> tuple[Called, ...]:
    """Return what the calls of a job did; raises ProtocolError where not each reported once."""
    if len(reply["tests"]) != job["count"]:
        raise protocol.ProtocolError("the slot did not report every call exactly once")
    return tuple(each["called"] for each in reply["tests"])

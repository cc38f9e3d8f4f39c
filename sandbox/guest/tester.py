"""The trusted side of function tests: runs the test code against proxies of the program's names.

The program is in another process of another pid and user namespace. What comes from there is plain
data or an opaque reference; no operator of a proxy ever asks the program whether two things are
equal.
"""

from __future__ import annotations

import builtins
import collections
import os
import random
import sys
from collections.abc import Callable
from typing import Any

from sandbox import protocol, values
from sandbox.guest import jail
from sandbox.guest.wire import Closed, Wire

_DETAIL = 600


class SolutionDied(BaseException):
    """The program's process ended while the test waited for it."""


class Tampered(BaseException):
    """The program wrote something that no driver writes."""


class CannotCross(BaseException):
    """A value of the program's has no plain form; not for a test's own ``except Exception``."""


class _Sentinel:
    """What no value is equal to."""


_SENTINEL = _Sentinel()
_LAST: list[Any] = []  # both sides of the last comparison, to tell why it failed


def strict_equal(left: Any, right: Any) -> Any:
    """``left == right``, unless either side claims to be equal to everything.

    The tripwire of an assertion: the same comparison with an expectation made wrong on purpose.
    """
    _LAST[:] = [left, right]
    result = left == right
    if result is True and left is not right:
        for side in (left, right):
            if (side == _SENTINEL) is True:
                raise Tampered("a value says that it equals everything")
    return result


# ------------------------------------------------------------------------------------- proxies


class Channel:
    """Calls to the program, one at a time."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._next = 0
        self.fatal: BaseException | None = None  # what a test's bare except must not hide
        self.classes: dict[str, type] = {}
        self.errors: dict[str, type[BaseException]] = {}

    def ask(self, request: dict[str, Any], arguments: list[Any]) -> Any:
        """Send one request and return its value; write changed arguments back in place."""
        try:
            return self._ask(request, arguments)
        except (SolutionDied, Tampered, CannotCross) as error:
            self.fatal = self.fatal or error
            raise

    def _ask(self, request: dict[str, Any], arguments: list[Any]) -> Any:
        try:
            # Before the number is taken: draining an argument may ask the program in turn.
            request["args"] = [values.encode(item, _to_ref) for item in arguments]
            request["kwargs"] = {
                name: values.encode(item, _to_ref)
                for name, item in request.get("kwargs", {}).items()
            }
        except values.Uncrossable as error:
            raise CannotCross(f"an argument: {error}") from None
        self._next += 1
        request["id"] = self._next
        try:
            self._wire.send(request)
            reply = self._wire.receive()
        except Closed:
            raise SolutionDied from None
        except protocol.ProtocolError as error:
            raise Tampered(str(error)) from None
        if type(reply) is not dict or reply.get("id") != self._next:
            raise Tampered("a reply to another call")
        try:
            return self._read(reply, arguments)
        except values.Uncrossable as error:
            raise CannotCross(str(error)) from None
        except protocol.ProtocolError as error:
            raise Tampered(str(error)) from None

    def _read(self, reply: dict[str, Any], arguments: list[Any]) -> Any:
        if "uncrossable" in reply:
            raise CannotCross(str(reply["uncrossable"])[:_DETAIL])
        if "error" in reply:
            raise self.make_error(reply["error"])
        if "value" not in reply:
            raise Tampered("a reply without a value")
        for index, wire in reply.get("changed", {}).items():
            position = int(index)
            if 0 <= position < len(arguments):
                _write_back(arguments[position], values.decode(wire, self.from_ref))
        return values.decode(reply["value"], self.from_ref)

    def make_error(self, wire: Any) -> BaseException:
        """Return an exception of the same name and message, marked as the program's own."""
        if type(wire) is not dict:
            raise Tampered("an error that is no object")
        name, message = str(wire.get("name")), str(wire.get("message"))
        kind = self.errors.get(name) or error_type(name, str(wire.get("base")))
        args: Any = (message,)
        if "args" in wire:
            args = values.decode(wire["args"], self.from_ref)
        try:
            error: BaseException = kind(*args)
        except Exception:  # a kind that wants other arguments
            error = type(name if name.isidentifier() else "ProgramError", (Exception,), {})(message)
        error.__dict__["_from_program"] = True
        return error

    def from_ref(self, payload: Any) -> Any:
        """Return the proxy for a reference that the program sent."""
        if type(payload) is not list or len(payload) != 2 or type(payload[0]) is not int:
            raise protocol.ProtocolError("a malformed reference")
        kind = self.classes.get(str(payload[1]), RemoteObject)
        made: Any = object.__new__(kind)
        object.__setattr__(made, "_remote", (self, {"ref": payload[0]}))
        return made


def error_type(name: str, base: str) -> type[BaseException]:
    """Return the built-in exception ``name``, or a new one of that name under ``base``.

    An exit of the program's is no exit of the tester's, so those become plain exceptions here.
    """
    found = getattr(builtins, name, None)
    if isinstance(found, type) and issubclass(found, Exception):
        return found
    parent = getattr(builtins, base, None)
    if not (isinstance(parent, type) and issubclass(parent, Exception)):
        parent = Exception
    return type(name if name.isidentifier() else "ProgramError", (parent,), {})


def _to_ref(value: Any) -> Any:
    if isinstance(value, RemoteObject):
        target = object.__getattribute__(value, "_remote")[1]
        return [target["ref"], ""] if "ref" in target else None
    return None


def _write_back(argument: Any, after: Any) -> None:
    kind = type(argument)
    if kind is not type(after):
        return
    if kind is list or kind is bytearray:
        argument[:] = after
    elif kind is collections.deque:
        argument.clear()
        argument.extend(after)
    elif kind is dict or kind is set or hasattr(kind, "update"):
        argument.clear()
        argument.update(after)


class RemoteObject:
    """Something of the program's that stays there: a function, or an object of one of its classes.

    It has no equality but identity, and takes attributes, calls, len, iteration and indexing.
    """

    _remote: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it over there."""
        channel, target = object.__getattribute__(self, "_remote")
        return channel.ask({"op": "call", "kwargs": kwargs, **target}, list(args))

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        channel, target = object.__getattribute__(self, "_remote")
        return channel.ask({"op": "get", "attribute": attribute, **target}, [])

    def __setattr__(self, attribute: str, value: Any) -> None:
        channel, target = object.__getattribute__(self, "_remote")
        channel.ask({"op": "set", "attribute": attribute, **target}, [value])

    def _special(self, attribute: str, *args: Any) -> Any:
        channel, target = object.__getattribute__(self, "_remote")
        return channel.ask({"op": "call", "attribute": attribute, **target}, list(args))

    def __len__(self) -> int:
        return int(self._special("__len__"))

    def __iter__(self) -> Any:
        return iter(self._special("__iter__"))

    def __getitem__(self, key: Any) -> Any:
        return self._special("__getitem__", key)

    def __str__(self) -> str:
        return str(self._special("__str__"))

    def __bool__(self) -> bool:
        return True


def _proxy(channel: Channel, name: str) -> RemoteObject:
    made = object.__new__(RemoteObject)
    object.__setattr__(made, "_remote", (channel, {"name": name}))
    return made


def _class_proxy(channel: Channel, name: str) -> type:
    def construct(_: type, *args: Any, **kwargs: Any) -> Any:
        return channel.ask({"op": "call", "name": name, "kwargs": kwargs}, list(args))

    class Meta(type):
        __call__ = construct

        def __getattr__(cls, attribute: str) -> Any:
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            return channel.ask({"op": "get", "attribute": attribute, "name": name}, [])

    made = Meta(name, (RemoteObject,), {})
    channel.classes[name] = made
    return made


def namespace(channel: Channel, names: Any, entry_point: str) -> dict[str, Any]:
    """Return the test's globals: a proxy for every name the program defines and the tests use.

    But for the entry point, the program can't take a built-in's or a standard module's name: a test
    that calls ``abs`` or ``math.isclose`` means Python's.
    """
    made: dict[str, Any] = {}
    standard: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())
    for name, kind, extra in names:
        if name != entry_point and (hasattr(builtins, name) or name in standard):
            continue
        if kind == "function":
            made[name] = _proxy(channel, name)
        elif kind == "class":
            made[name] = _class_proxy(channel, name)
        elif kind == "exception":
            made[name] = channel.errors[name] = error_type(name, str(extra))
        elif kind == "value":
            made[name] = values.decode(extra, channel.from_ref)
        elif kind == "module" and extra in sys.modules and extra.partition(".")[0] in standard:
            made[name] = sys.modules[extra]
    for name in _COMMON:
        made.setdefault(name, sys.modules[name])
    return made


_COMMON = ("math", "random", "re", "collections", "itertools", "functools", "copy", "string")

# -------------------------------------------------------------------------------------- running


def run_tests(
    job: dict[str, Any],
    names: dict[str, Any],
    report: Callable[[dict[str, Any]], None],
    channel: Channel | None = None,
) -> None:
    """Run the job's tests from ``job["start"]`` on, reporting each; stop where the program died."""
    names["__builtins__"] = builtins
    names["__strict_equal__"] = strict_equal
    names["__name__"] = "tests"
    tests = _script_tests(job, names) if job["kind"] == "script" else _assert_tests(job, names)
    for index in range(job["start"], job["count"]):
        _LAST.clear()
        outcome = _outcome(lambda at=index: _whole(tests, at, channel))  # type: ignore[misc]
        outcome["test"] = index
        report(outcome)
        if outcome["status"] == "died":
            return


def _whole(tests: Callable[[int], None], index: int, channel: Channel | None) -> None:
    """Run one test; a death or a forgery is one, though the test caught it with everything else."""
    if channel is not None:
        channel.fatal = None
    tests(index)
    if channel is not None and channel.fatal is not None:
        raise channel.fatal


def _prepare(source: str, names: dict[str, Any]) -> None:
    if source:
        exec(compile(source, "<setup>", "exec", dont_inherit=True), names)


def _script_tests(job: dict[str, Any], names: dict[str, Any]) -> Callable[[int], None]:
    def run(_: int) -> None:
        entry = job["entry_point"]
        candidate = names.get(entry)
        if job["helpers"]:
            _helpers(job, names)
        exec(compile(job["code"], "<tests>", "exec", dont_inherit=True), names)
        check = names.get("check")
        if check is not None and entry:
            if candidate is None:
                raise NotDefined(f"the program does not define {entry}")
            check(candidate)

    return run


def _assert_tests(job: dict[str, Any], names: dict[str, Any]) -> Callable[[int], None]:
    prepared: list[bool] = []

    def run(index: int) -> None:
        if not prepared:
            if job["helpers"]:
                _helpers(job, names)
            _prepare(job["setup"], names)
            prepared.append(True)
        exec(compile(job["asserts"][index], "<tests>", "exec", dont_inherit=True), names)

    return run


def _helpers(job: dict[str, Any], names: dict[str, Any]) -> None:
    """Take the tests' helpers, all but the entry point, from the reference."""
    own: dict[str, Any] = {"__name__": "reference"}
    exec(compile(job["helpers"]["code"], "<reference>", "exec", dont_inherit=True), own)
    for name in job["helpers"]["names"]:
        if name in own:  # not bound under a condition that does not hold here
            names[name] = own[name]


class NotDefined(Exception):
    """The program lacks the name that the tests call."""


def _outcome(test: Callable[[], None]) -> dict[str, Any]:
    try:
        test()
    except AssertionError as error:
        if getattr(error, "_from_program", False):
            return {"status": "raised", "detail": _say(error), "error": "AssertionError"}
        return {"status": "failed", "detail": _say(error)}
    except CannotCross as error:
        return {"status": "uncrossable", "detail": str(error)[:_DETAIL]}
    except SolutionDied:
        return {"status": "died", "detail": ""}
    except Tampered as error:
        return {"status": "tampered", "detail": str(error)[:_DETAIL]}
    except NotDefined as error:
        return {"status": "raised", "detail": str(error), "error": "NameError"}
    except MemoryError as error:
        if getattr(error, "_from_program", False):
            return {"status": "raised", "detail": _say(error), "error": "MemoryError"}
        return {"status": "failed", "detail": "the test ran out of memory"}
    except Exception as error:
        status = "raised" if getattr(error, "_from_program", False) else "failed"
        return {"status": status, "detail": _say(error), "error": type(error).__name__}
    except BaseException as error:  # an exit of the test's own: no fault of ours, and no pass
        return {"status": "failed", "detail": _say(error), "error": type(error).__name__}
    return {"status": "passed", "detail": ""}


def _short(value: Any) -> str:
    try:
        return repr(value)[:200]
    except Exception:
        return f"<{type(value).__name__}>"


def _say(error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:  # an integer too long to print; an object that the program has to print
        text = type(error).__name__
    if isinstance(error, AssertionError) and len(_LAST) == 2:
        text += f" [compared {_short(_LAST[0])} with {_short(_LAST[1])}]"
    return text[:_DETAIL]


def main(channel_descriptor: int, report_descriptor: int) -> None:
    """Run one job that arrives on the report wire, then end the process; never returns."""
    status = 0
    try:
        random.seed(0)
        supervisor = Wire(report_descriptor)
        job = supervisor.receive()
        jail.set_limits(**job["limits"])
        channel = Channel(Wire(channel_descriptor, values.MAX_PROGRAM_FRAME))
        try:
            names = namespace(channel, job["names"], job["entry_point"])
        except Exception as error:  # a MemoryError too: what the program says it defines is its own
            for test in range(job["start"], job["count"]):
                said = f"{type(error).__name__}: {error}"[:300]
                supervisor.send({"test": test, "status": "tampered", "detail": said})
            return
        run_tests(job, names, supervisor.send, channel)
    except Closed:
        status = 0
    except BaseException as error:
        status = 3
        try:
            os.write(2, f"tester: {type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        except OSError:
            status = 4
    finally:
        os._exit(status)

"""The untrusted side: loads a program and answers calls with values.

Everything in here shares a process with the program, so nothing that it says is believed: a reply
is a value to compare, and no test's expectation ever comes here (but in weak mode, which says so).
"""

from __future__ import annotations

import atexit
import builtins
import collections
import collections.abc
import os
import random
import sys
import types
from typing import Any

from sandbox import protocol, values
from sandbox.guest import jail, tester
from sandbox.guest.wire import Closed, Wire

MODULE = "solution"
_MESSAGE_CAP = 2000


def describe_error(error: BaseException) -> dict[str, Any]:
    """Say an exception as plain data: its name, its nearest built-in ancestor, its message."""
    base = "Exception"
    for kind in type(error).__mro__:
        if kind.__module__ == "builtins" and hasattr(builtins, kind.__name__):
            base = kind.__name__
            break
    try:
        message = str(error)[:_MESSAGE_CAP]
    except BaseException:  # its __str__ is the program's own code
        message = "<unprintable>"
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == f"<{MODULE}>":
            line = trace.tb_lineno
        trace = trace.tb_next
    said = {"name": str(type(error).__name__)[:200], "base": base, "message": message, "line": line}
    try:
        args = values.encode(tuple(error.args))
        if len(protocol.pack(args)) <= _MESSAGE_CAP:
            said["args"] = args
    except Exception:  # arguments of the program's own kinds: the message has to do
        return said
    return said


_PID = 0  # of the process that the wire belongs to; a child of the program's is not it


def _end_a_child(error: BaseException | None) -> None:
    """End as an interpreter would where a forked child has come back to the driver."""
    if os.getpid() == _PID:
        return
    status = 0
    if isinstance(error, SystemExit):
        status = _exit_status(error)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    _flush()
    os._exit(status)


def _exit_status(error: SystemExit) -> int:
    """Return what an interpreter ends with: the code, which a truth value is, too."""
    return error.code & 0xFF if isinstance(error.code, int) else int(error.code is not None)


class Driver:
    """Answers frames about one loaded program until the wire closes."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._names: dict[str, Any] = {}
        self._objects: list[Any] = []

    def load(self, request: dict[str, Any]) -> bool:
        """Run the program under a name that isn't ``__main__``; report what it defines."""
        try:
            code = compile(request["code"], f"<{MODULE}>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            self._wire.send({"loaded": False, "stage": "compile", "error": describe_error(error)})
            return False
        module = types.ModuleType(MODULE)
        sys.modules[MODULE] = module
        self._names = module.__dict__
        try:
            exec(code, self._names)
        except BaseException as error:  # SystemExit too: it ends the program, not the driver
            _end_a_child(error)
            _flush()
            self._wire.send({"loaded": False, "stage": "run", "error": describe_error(error)})
            return False
        _end_a_child(None)
        _flush()
        self._wire.send({"loaded": True, "names": self._offered(request["wanted"])})
        return True

    def _offered(self, wanted: list[str]) -> list[list[Any]]:
        """Return what the tests may use of the program: all that crosses, as far as a frame goes.

        Tests name their own variables, too, and the program may have a large table of that name.
        """
        offered, size = [], 0
        for name in wanted:
            kind = self._kind(name, self._names[name]) if name in self._names else None
            length = len(protocol.pack(kind))
            if kind is not None and size + length <= values.MAX_VALUE_BYTES:
                offered.append(kind)
                size += length
        return offered

    def _kind(self, name: str, value: Any) -> list[Any] | None:
        if type(value) is types.ModuleType:
            return [name, "module", value.__name__]
        if isinstance(value, type):
            if issubclass(value, BaseException):
                return [name, "exception", describe_error(value.__new__(value))["base"]]
            return [name, "class", None]
        if callable(value):
            return [name, "function", None]
        if isinstance(value, collections.abc.Iterator):
            return None  # it would be used up, and the program may need it
        try:
            return [name, "value", values.encode(value, self._to_ref)]
        except values.Uncrossable:
            return None

    def _to_ref(self, value: Any) -> Any:
        kind = type(value)
        if kind.__module__ != MODULE and not isinstance(
            value, (types.FunctionType, types.MethodType)
        ):
            return None
        self._objects.append(value)
        return [len(self._objects) - 1, kind.__name__]

    def _from_ref(self, payload: Any) -> Any:
        return self._objects[payload[0]]

    def _target(self, request: dict[str, Any]) -> Any:
        if "name" in request:
            return self._names[request["name"]]
        return self._objects[request["ref"]]

    def _perform(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = request["op"]
        target = self._target(request)
        if operation == "get":
            return {"value": values.encode(getattr(target, request["attribute"]), self._to_ref)}
        arguments = [values.decode(item, self._from_ref) for item in request["args"]]
        if operation == "set":
            setattr(target, request["attribute"], arguments[0])
            return {"value": None}
        keywords = {k: values.decode(v, self._from_ref) for k, v in request["kwargs"].items()}
        if request.get("attribute") is not None:
            target = getattr(target, request["attribute"])
        result = target(*arguments, **keywords)
        if request.get("plain"):
            return {"value": values.encode(result)}
        value = values.encode(result, self._to_ref)
        changed = {}
        for index, argument in enumerate(arguments):
            if isinstance(argument, (list, dict, set, bytearray, collections.deque)):
                after = self._after(argument)
                if after is not None and after != request["args"][index]:
                    changed[str(index)] = after
        return {"value": value, "changed": changed}

    def _after(self, argument: Any) -> Any:
        try:
            return values.encode(argument, self._to_ref)
        except values.Uncrossable:
            return None  # the test sees its argument as it was, as for any object of the program's

    def answer(self, request: dict[str, Any]) -> None:
        """Perform one request and send its reply."""
        try:
            reply = self._perform(request)
        except values.Uncrossable as error:
            reply = {"uncrossable": str(error)[:_MESSAGE_CAP]}
        except BaseException as error:  # SystemExit and KeyboardInterrupt are the program's, too
            _end_a_child(error)
            reply = {"error": describe_error(error)}
        _end_a_child(None)
        _flush()
        reply["id"] = request["id"]
        body = protocol.pack(reply)
        if len(body) > values.MAX_VALUE_BYTES:
            reply = {"id": request["id"], "uncrossable": f"a value of {len(body)} bytes"}
        self._wire.send(reply)

    def weak(self, job: dict[str, Any]) -> None:
        """Run the tests beside the program, for a task whose values have no plain form."""
        tester.run_tests(job, dict(self._names), self._wire.send)


def _flush() -> None:
    # The first ones, too, where the program has put others in their place.
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]
        except Exception:  # the program closed it, or has none
            continue


def _program(request: dict[str, Any], wire: Wire) -> int:
    """Run a whole program as ``__main__`` and return its exit status."""
    try:
        code = compile(request["code"], f"<{MODULE}>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        wire.send({"loaded": False, "stage": "compile", "error": describe_error(error)})
        return 1
    wire.send({"loaded": True, "names": []})
    main = types.ModuleType("__main__")
    main.__file__ = "/tmp/main.py"  # as a script has one
    sys.modules["__main__"] = main
    status = 0
    try:
        exec(code, main.__dict__)
    except SystemExit as error:
        status = _exit_status(error)
    except BaseException as error:
        if os.getpid() == _PID:  # a child's end is not the program's
            wire.send({"error": describe_error(error)})
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    threads = sys.modules.get("threading")
    if threads is not None:
        threads._shutdown()
    atexit._run_exitfuncs()
    _flush()
    return status & 0xFF


def main(descriptor: int) -> None:
    """Serve one program on ``descriptor``, then end the process; never returns."""
    global _PID
    status = 0
    try:
        _PID = os.getpid()
        random.seed(0)
        wire = Wire(descriptor)
        request = wire.receive()
        jail.wait_for_silence()
        jail.set_limits(**request["limits"])
        if request["main"]:
            status = _program(request, wire)
        else:
            driver = Driver(wire)
            if driver.load(request):
                while True:
                    request = wire.receive()
                    if request["op"] == "weak":
                        driver.weak(request)
                    else:
                        driver.answer(request)
    except Closed:
        status = 0
    except BaseException as error:
        try:
            os.write(2, f"driver: {type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        except OSError:
            status = 2
        status = 2
    finally:
        os._exit(status)


_REHEARSAL = """
from typing import List, Dict
import math, re
class Thing:
    def __init__(self, n):
        self.n = n
def f(items: List[int], more: Dict[str, float]) -> list:
    made = [x * 2 for x in items if x % 2 == 0]
    for key, value in sorted(more.items()):
        made.append((key, value, len(key)))
    return made + [True, None, "text", {1, 2}, {"a": [1.5]}]
"""


def rehearse(ours: int, theirs: int) -> None:
    """Load a program and answer calls on a wire of our own, then forget them."""
    global _PID
    _PID = os.getpid()
    host = Wire(ours)
    for turn in range(10):
        driver = Driver(Wire(theirs))
        driver.load({"code": _REHEARSAL, "wanted": ["f", "Thing"]})
        for index, args in enumerate(([[1, 2], {"a": 1.5}], [[turn], {}], [0, 0])):
            host.send({"op": "call", "id": index, "name": "f", "args": args, "kwargs": {}})
            driver.answer(Wire(theirs).receive())
        for _ in range(4):
            host.receive()
    random.seed(0)
    sys.modules.pop(MODULE, None)

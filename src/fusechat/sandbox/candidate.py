"""The candidate's side of strict mode: holds the program, and does what the judge asks of it.

Runs in a confined process of its own, together with the program. What it sends is believed in
nothing: a program may take this code over, and then can do no more than answer questions.

A message is a list: what to do, and with what. `["call", f, args, kwargs]`, `["get", x, name]`,
`["set", x, name, value]`, `["do", operation, x, ...]`, `["script", stdin]`. The answer is
`["ok", value, changed]`, with the arguments that changed in place, or
`["raised", builtin name, own name, args]`, or `["refused", why]`.
"""

from __future__ import annotations

import builtins
import operator
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

from fusechat.sandbox.program import compile_program, solution_module, words_of
from fusechat.sandbox.script import run_script
from fusechat.sandbox.wire import NotPlain, Pipe, dumps, loads

OPERATIONS: dict[str, Callable[..., Any]] = {
    "len": len, "iter": iter, "next": next, "str": str, "repr": repr, "bool": bool, "dir": dir,
    "format": format, "getitem": operator.getitem, "setitem": operator.setitem,
    "delitem": operator.delitem, "eq": operator.eq, "ne": operator.ne, "lt": operator.lt,
    "le": operator.le, "gt": operator.gt, "ge": operator.ge, "isinstance": isinstance,
    "issubclass": issubclass, "add": operator.add, "sub": operator.sub, "mul": operator.mul,
    "truediv": operator.truediv, "floordiv": operator.floordiv, "mod": operator.mod,
    "pow": operator.pow, "matmul": operator.matmul, "and": operator.and_, "or": operator.or_,
    "xor": operator.xor, "neg": operator.neg, "abs": abs, "pos": operator.pos,
    "invert": operator.invert, "enter": lambda x: type(x).__enter__(x),
    "exit": lambda x: type(x).__exit__(x, None, None, None),
}  # fmt: skip
_COPIED_BACK = (list, dict, set, bytearray)


class Host:
    """The program's objects, by number, and the judge's requests about them."""

    def __init__(self, program: str, pipe: Pipe) -> None:
        self._program, self._pipe = program, pipe
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}

    def serve(self) -> NoReturn:
        """Load the program, tell its names, answer until the judge is gone."""
        self._pipe.send(self._loaded())
        while True:
            self._pipe.send(self._answer(self._pipe.receive()))

    def _loaded(self) -> bytes:
        module = solution_module()
        try:
            code = compile_program(self._program)
        except Exception as error:  # noqa: BLE001 - whatever compiling raises is told
            return dumps(["invalid", type(error).__name__, words_of(error)])
        try:
            exec(code, module.__dict__)
        except BaseException as error:  # noqa: BLE001 - a program may raise anything at all
            return self._raised(error)
        names = [
            [name, self._export(name, value)]
            for name, value in list(module.__dict__.items())
            if type(name) is str and not (name.startswith("__") and name.endswith("__"))
        ]
        return dumps(["ok", names], self._reference)

    def _export(self, name: str, value: Any) -> Any:
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, type) and issubclass(value, BaseException):
            bases = [base.__name__ for base in value.__bases__]
            return ["exception", value.__name__, bases, _builtin_name(value)]
        home = sys.modules.get(str(getattr(value, "__module__", "")))
        if home is not None and home.__name__ != "solution" and getattr(home, name, None) is value:
            return ["library", home.__name__]
        try:
            dumps(value)
        except NotPlain:
            return ["object", _Handle(value)]
        return ["constant", value]

    def _answer(self, message: bytes) -> bytes:
        try:
            what, *details = loads(message, self._referred)
            if what == "call":
                return self._called(*details)
            return dumps(["ok", self._value(what, details), []], self._reference)
        except NotPlain as error:
            return dumps(["refused", str(error)])
        except BaseException as error:  # noqa: BLE001 - the judge raises it again
            return self._raised(error)

    def _value(self, what: str, details: list[Any]) -> Any:
        if what == "get":
            return getattr(*details)
        if what == "set":
            return setattr(*details)
        if what == "script":
            return run_script(self._program, *details)
        return OPERATIONS[details[0]](*details[1:])

    def _called(self, function: Any, args: list[Any], kwargs: dict[str, Any]) -> bytes:
        given = [*args, *kwargs.values()]
        before = [self._packed(v) if type(v) in _COPIED_BACK else None for v in given]
        value = function(*args, **kwargs)
        after = [
            [place, given[place]]
            for place, packed in enumerate(before)
            if packed is not None and self._packed(given[place]) != packed
        ]
        return dumps(["ok", value, after], self._reference)

    def _packed(self, value: Any) -> bytes:
        return dumps(value, self._reference)

    def _raised(self, error: BaseException) -> bytes:
        kind = type(error)
        own = None if getattr(builtins, kind.__name__, None) is kind else kind.__name__
        try:
            return dumps(["raised", _builtin_name(kind), own, list(error.args)])
        except NotPlain:
            return dumps(["raised", _builtin_name(kind), own, [words_of(error)]])

    def _reference(self, value: Any) -> list[Any]:
        """A number for an object that is not plain, and words on what it is."""
        if type(value) is _Handle:
            value = value.value
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return ["h", number, isinstance(value, type), type(value).__name__]

    def _referred(self, found: list[Any]) -> Any:
        if found[0] == "h":
            return self._objects[found[1]]
        if found[0] == "g":
            return getattr(builtins, found[1])
        return _Callback(self, found[1])

    def call_back(self, number: int, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Have the judge call a function of its own that it passed as an argument."""
        self._pipe.send(dumps(["callback", number, args, kwargs], self._reference))
        while True:
            message = self._pipe.receive()
            answer = loads(message, self._referred)
            if answer[0] == "returned":
                return answer[1]
            if answer[0] == "threw":
                raise getattr(builtins, answer[1])(*answer[2])
            self._pipe.send(self._answer(message))


class _Handle:
    """Marks a value to be sent as a number even where it is plain."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Callback:
    """A function of the tests, as the program sees it."""

    def __init__(self, host: Host, number: int) -> None:
        self._host, self._number = host, number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._host.call_back(self._number, list(args), kwargs)


def _builtin_name(kind: type) -> str:
    """The nearest built-in exception."""
    names = (base.__name__ for base in kind.__mro__ if base.__module__ == "builtins")
    return next(names, "RuntimeError")

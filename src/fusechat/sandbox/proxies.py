"""What stands in the judge for the program's functions, classes and objects.

Nothing of the candidate is ever an object here: a proxy has a number, and asks. What comes back
is a plain value or another proxy. So that no object of the program can pass for the value that a
test expects, a proxy is never compared with a plain value, and arithmetic between the two may
only give a proxy: both raise `NotPlain`, which is a failed test.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from fusechat.sandbox.wire import NotPlain, Pipe, dumps, loads

_PREDICATES = frozenset(
    name
    for kind in (str, set, float)
    for name in vars(kind)
    if name.startswith("is") or name in ("startswith", "endswith")
)
"""Methods of plain values that answer yes or no: an object of the program could always say yes."""


class Unsupported(BaseException):
    """The tests do what cannot be done across two processes."""


class Gone(BaseException):
    """The candidate's process has ended."""


class Link:
    """The judge's end of the pipe: asks, decodes, and answers the program's callbacks."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._proxies: dict[int, Proxy] = {}
        self._functions: list[Callable[..., Any]] = []
        self.exceptions: dict[str, type[BaseException]] = {}

    def hello(self) -> list[Any]:
        """The candidate's first message."""
        answer: list[Any] = loads(self._receive(), self._referred)
        return answer

    def ask(self, *request: Any) -> Any:
        """The candidate's answer to a request, or its exception, raised here."""
        self._send(dumps(list(request), self._reference))
        while True:
            answer = loads(self._receive(), self._referred)
            match answer:
                case ["ok", value, []]:
                    return value
                case ["ok", value, list() as changed] if request[0] == "call":
                    _copy_back(changed, [*request[2], *request[3].values()])
                    return value
                case ["raised", str() as name, own, list() as args]:
                    raise self.exception(name, own, args)
                case ["refused", str() as why]:
                    raise NotPlain(f"the program gave {why}, which is not plain")
                case ["callback", int() as number, list() as args, dict() as kwargs]:
                    self._send(self._called_back(number, args, kwargs))
                case _:
                    raise NotPlain("the program's process broke the protocol")

    def _called_back(self, number: int, args: list[Any], kwargs: dict[str, Any]) -> bytes:
        try:
            value = self._functions[number](*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the program may catch it
            kind = next(k for k in type(error).__mro__ if k.__module__ == "builtins")
            return dumps(["threw", kind.__name__, [str(error)]])
        return dumps(["returned", value], self._reference)

    def _send(self, message: bytes) -> None:
        try:
            self._pipe.send(message)
        except EOFError:
            raise Gone from None

    def _receive(self) -> bytes:
        try:
            return self._pipe.receive()
        except EOFError:
            raise Gone from None

    def exception(self, name: str, own: Any, args: list[Any]) -> BaseException:
        """What the program raised, as the built-in or as the stand-in of its own class."""
        kind = self.exceptions.get(own) if type(own) is str else None
        kind = kind or getattr(builtins, name, None)
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise NotPlain("the program raised what is no exception")
        try:
            return kind(*args)
        except TypeError:
            return RuntimeError(f"{name}: {args}")

    def _reference(self, value: Any) -> list[Any]:
        if type(value) is Proxy:
            return ["h", value.__fusechat_number__]
        name = getattr(value, "__name__", None)
        if type(name) is str and getattr(builtins, name, None) is value:
            return ["g", name]
        if callable(value) and not isinstance(value, type):
            self._functions.append(value)
            return ["k", len(self._functions) - 1]
        raise Unsupported(f"tests pass a value of type {type(value).__name__} to the program")

    def _referred(self, found: list[Any]) -> Proxy:
        tag, number, is_class, kind = found
        if tag != "h" or type(number) is not int or type(kind) is not str:
            raise ValueError
        if number not in self._proxies:
            self._proxies[number] = Proxy(self, number, is_class is True, kind[:80])
        return self._proxies[number]


def _copy_back(changed: list[Any], given: list[Any]) -> None:
    """Give arguments the contents that the program left in them; only lists and their like."""
    for place, value in changed:
        _become(given[place], value)


def _become(old: Any, new: Any) -> None:
    if type(old) is not type(new):
        raise NotPlain("the program gave an argument another type")
    if type(old) is list:
        for index, (before, after) in enumerate(zip(old, new, strict=False)):
            if type(before) is type(after) and type(before) in (list, dict, set):
                _become(before, after)
                new[index] = before
        old[:] = new
    elif type(old) is bytearray:
        old[:] = new
    elif type(old) in (dict, set):
        old.clear()
        old.update(new)


def _compared(name: str) -> Callable[[Any, Any], Any]:
    def compare(self: Proxy, other: Any) -> bool:
        if type(other) is not Proxy:
            raise NotPlain(_meets(self, other))
        return bool(_exactly(bool, self.__fusechat_link__.ask("do", name, self, other)))

    return compare


def _computed(name: str, swapped: bool = False) -> Callable[..., Any]:
    def compute(self: Proxy, *others: Any) -> Any:
        sides = (*others, self) if swapped else (self, *others)
        found = self.__fusechat_link__.ask("do", name, *sides)
        if type(found) is not Proxy and not all(type(side) is Proxy for side in sides[:2]):
            raise NotPlain(_meets(self, *others))
        if type(found) is not Proxy and len(sides) == 1:
            raise NotPlain(_meets(self, None))
        return found

    return compute


def _asked(name: str, kind: type | None = None) -> Callable[..., Any]:
    def ask(self: Proxy, *others: Any) -> Any:
        found = self.__fusechat_link__.ask("do", name, self, *others)
        return found if kind is None else _exactly(kind, found)

    return ask


def _exactly(kind: type, found: Any) -> Any:
    if type(found) is not kind:
        raise NotPlain(f"the program gave a value of type {type(found).__name__}")
    return found


def _meets(proxy: Proxy, other: Any) -> str:
    kind = proxy.__fusechat_kind__
    return f"the program gave an object of type {kind}, where the test needs a plain value"


class Proxy:
    """A function, class or object of the program; see the module."""

    __slots__ = (
        "__fusechat_class__", "__fusechat_kind__", "__fusechat_link__", "__fusechat_number__",
    )  # fmt: skip

    def __init__(self, link: Link, number: int, is_class: bool, kind: str) -> None:
        put = object.__setattr__
        put(self, "__fusechat_link__", link)
        put(self, "__fusechat_number__", number)
        put(self, "__fusechat_class__", is_class)
        put(self, "__fusechat_kind__", kind)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__fusechat_link__.ask("call", self, list(args), kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__doc__", "__qualname__"):
            raise Unsupported(f"tests look at {name} of the program's objects")
        if name in _PREDICATES:
            raise NotPlain(_meets(self, name))
        return self.__fusechat_link__.ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.__fusechat_link__.ask("set", self, name, value)

    def __iter__(self) -> Any:
        iterator = self.__fusechat_link__.ask("do", "iter", self)
        return iterator if type(iterator) is Proxy else iter(iterator)

    def __contains__(self, item: Any) -> bool:
        return any(item is found or item == found for found in self)

    def __instancecheck__(self, instance: Any) -> bool:
        return type(instance) is Proxy and self._tested("isinstance", instance)

    def __subclasscheck__(self, other: Any) -> bool:
        return type(other) is Proxy and self._tested("issubclass", other)

    def _tested(self, name: str, other: Proxy) -> bool:
        return bool(_exactly(bool, self.__fusechat_link__.ask("do", name, other, self)))

    def __mro_entries__(self, bases: Any) -> Any:
        raise Unsupported("tests derive from the program's classes")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise Unsupported("tests copy or pickle the program's objects")

    def __exit__(self, *failure: Any) -> None:
        self.__fusechat_link__.ask("do", "exit", self)

    def __hash__(self) -> int:
        return hash(self.__fusechat_number__)

    def __format__(self, how: str) -> str:
        return str(_exactly(str, self.__fusechat_link__.ask("do", "format", self, how)))

    __next__, __enter__ = _asked("next"), _asked("enter")
    __len__, __bool__ = _asked("len", int), _asked("bool", bool)
    __str__, __repr__ = _asked("str", str), _asked("repr", str)
    __getitem__, __setitem__, __delitem__ = _asked("getitem"), _asked("setitem"), _asked("delitem")
    __eq__, __ne__ = _compared("eq"), _compared("ne")
    __lt__, __le__, __gt__, __ge__ = map(_compared, ("lt", "le", "gt", "ge"))


_OPERATORS = "add sub mul truediv floordiv mod pow matmul and or xor"
for _name in _OPERATORS.split():
    setattr(Proxy, f"__{_name}__", _computed(_name))
    setattr(Proxy, f"__r{_name}__", _computed(_name, swapped=True))
for _name in ("neg", "pos", "invert", "abs"):
    setattr(Proxy, f"__{_name}__", _computed(_name))

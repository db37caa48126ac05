"""Tests of EvalPlus's data (HumanEval+, MBPP+) as Python source for the sandbox.

The rules are those of EvalPlus 0.3.1: expected results are those of the task's own solution;
floats may differ by 1e-6 (or the task's `atol`) besides 1e-7 of their size; some tasks have
oracles of their own. Input contracts are ignored there and here. One known difference: its
released version cannot pass HumanEval/32 (the result of its oracle is thrown away); here that
oracle counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

REFERENCE_FAULT = "the reference solution raised"
"""What the message of a run says in which the task's own solution failed."""
TOO_SLOW = "took too long for one input"
BY_THE_CLOCK = "by the clock"
"""Besides, where it was the clock that stopped it."""
SECONDS_AN_INPUT, TIMES_THE_REFERENCE = 5.0, 10.0
"""Processor seconds that a program may take for one input: at least, and times the reference's.
Processor time does not depend on what else the machine does; EvalPlus has 1 and 4, by the clock.
After three times as long on the clock a program is stopped, too, for those that sleep, and for
strict mode, where the program's processor time is not the tests' own."""

_HARNESS = """\
def _fusechat_numbers(got, wanted, atol):
    if isinstance(got, (list, tuple)) or isinstance(wanted, (list, tuple)):
        return len(got) == len(wanted) and all(
            _fusechat_numbers(a, b, atol) for a, b in zip(got, wanted))
    if got == wanted:
        return True
    return abs(got - wanted) <= atol + 1e-7 * abs(wanted)

def _fusechat_floats(value):
    if isinstance(value, (list, tuple)) and value:
        return all(isinstance(inner, float) for inner in value)
    return isinstance(value, float)

def _fusechat_reference():
    space = {"__name__": "reference"}
    exec(compile(_FUSECHAT_REFERENCE, "<reference>", "exec", dont_inherit=True), space)
    return space[_FUSECHAT_ENTRY]

def _fusechat_too_slow(number, frame):
    import signal
    clock = _FUSECHAT_CLOCK if number == signal.SIGALRM else ""
    raise TimeoutError(f"{_FUSECHAT_SLOW} of the {_fusechat_inputs} inputs {clock}")

def _fusechat_run(which, function, inputs, atol):
    global _fusechat_inputs
    _fusechat_inputs = which
    import copy, signal, time
    reference = _fusechat_reference()
    signal.signal(signal.SIGVTALRM, _fusechat_too_slow)
    signal.signal(signal.SIGALRM, _fusechat_too_slow)
    for given in inputs:
        begun = time.process_time()
        try:
            wanted = reference(*copy.deepcopy(given))
        except Exception as error:
            raise RuntimeError(f"{_FUSECHAT_FAULT} {type(error).__name__}: {error}") from None
        allowed = max(_FUSECHAT_SECONDS, _FUSECHAT_TIMES * (time.process_time() - begun))
        signal.setitimer(signal.ITIMER_VIRTUAL, allowed)
        signal.setitimer(signal.ITIMER_REAL, 3 * allowed)
        if which == "base":
            got = function(*given)  # base inputs
        else:
            got = function(*given)  # plus inputs
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        same = _fusechat_oracle(given, got, wanted, atol)
        if same is None:
            same = got == wanted
            if atol == 0 and _fusechat_floats(wanted):
                atol = 1e-6
            if not same and atol:
                same = type(got) is type(wanted) and _fusechat_numbers(got, wanted, atol)
        if not same:
            given = f"{which} inputs: {given!r:.100}"
            raise AssertionError(f"{given} gives {got!r:.100}, not {wanted!r:.100}")
"""
_NO_ORACLE = "def _fusechat_oracle(given, got, wanted, atol):\n    return None\n"
_ROOT = """\
def _fusechat_oracle(given, got, wanted, atol):
    return abs(sum(c * got ** power for power, c in enumerate(given[0]))) <= atol
"""
_SET = """\
def _fusechat_oracle(given, got, wanted, atol):
    return set(got) == set(wanted)
"""
_FOUND = """\
def _fusechat_oracle(given, got, wanted, atol):
    return (got if isinstance(got, bool) else got is not None) == (wanted is not None)
"""
_ANYTHING = "def _fusechat_oracle(given, got, wanted, atol):\n    return True\n"
_OR_ZERO = """\
def _fusechat_oracle(given, got, wanted, atol):
    return True if got == 0 else None
"""
_PYRAMID = """\
def _fusechat_oracle(given, got, wanted, atol):
    edge, height = given
    slant = ((edge / 2) ** 2 + height ** 2) ** 0.5
    return True if abs(got - round(edge ** 2 + 2 * edge * slant)) <= atol else None
"""
_DIGITS = """\
def _fusechat_oracle(given, got, wanted, atol):
    first, second = map(str, given)
    width = max(len(first), len(second))
    pairs = zip(first.zfill(width), second.zfill(width))
    return True if got == sum(abs(int(a) - int(b)) for a, b in pairs) else None
"""
_ORACLES = {
    "HumanEval/32": _ROOT,
    "Mbpp/164": _ANYTHING, "Mbpp/295": _OR_ZERO, "Mbpp/581": _PYRAMID, "Mbpp/558": _DIGITS,
    **dict.fromkeys(("Mbpp/2", "Mbpp/7", "Mbpp/111", "Mbpp/140", "Mbpp/232", "Mbpp/249",
                     "Mbpp/579", "Mbpp/769"), _SET),
}  # fmt: skip
_FOUND_OR_NOT = frozenset({"check_str", "text_match_three", "text_starta_endb"})


def plus_tests(
    task_id: str, row: Mapping[str, Any], inputs_of: Sequence[str] = ("base", "plus")
) -> str:
    """Source that raises where the program before it is wrong on base or plus inputs.

    `row` is a row of EvalPlus's release; of its inputs those of `inputs_of` count. The task's own
    solution runs in the same sandbox.
    """
    entry = row["entry_point"]
    oracle = _FOUND if entry in _FOUND_OR_NOT else _ORACLES.get(task_id, _NO_ORACLE)
    repair = _REPAIRS.get(task_id.rpartition("/")[2]) if task_id.startswith("Mbpp") else None
    runs = []
    for which in inputs_of:
        rows = row[f"{which}_input"] or ()
        inputs = [(repair(given) if repair else given) for given in rows]
        runs.append(f"_fusechat_run({which!r}, {entry}, {_literal(inputs)}, {row['atol']!r})\n")
    return (
        f"{_HARNESS}{oracle}_FUSECHAT_FAULT = {REFERENCE_FAULT!r}\n_FUSECHAT_SLOW = {TOO_SLOW!r}\n"
        f"_FUSECHAT_CLOCK = {BY_THE_CLOCK!r}\n"
        f"_FUSECHAT_SECONDS, _FUSECHAT_TIMES = {SECONDS_AN_INPUT}, {TIMES_THE_REFERENCE}\n"
        f"_FUSECHAT_ENTRY = {entry!r}\n"
        f"_FUSECHAT_REFERENCE = {reference(row)!r}\n{''.join(runs)}"
    )


def reference(row: Mapping[str, Any]) -> str:
    """The task's own solution, a whole program."""
    return f"{row['prompt']}{row['canonical_solution']}"


_BEHIND = re.compile(
    r"[^\n]*# (base|plus) inputs\)\Z|AssertionError: (base|plus) inputs: "
    rf"|TimeoutError: {TOO_SLOW} of the (base|plus) inputs ",
    re.DOTALL,
)
_WORDS = {"base": "base inputs fail", "plus": "base inputs pass, plus inputs fail"}


def where_failed(message: str) -> str:
    """At which of EvalPlus's inputs a program failed, by a verdict's message; else empty."""
    found = _BEHIND.match(message)
    return _WORDS[next(filter(None, found.groups()))] if found else ""


Input = list[Any]


def _deep(value: Any) -> Any:
    return tuple(map(_deep, value)) if isinstance(value, list) else value


def _each(given: Input) -> Input:
    return [tuple(argument) for argument in given]


def _each_list(given: Input) -> Input:
    return [list(map(tuple, argument)) for argument in given]


def _each_tuple(given: Input) -> Input:
    return [tuple(map(tuple, argument)) for argument in given]


def _first(given: Input) -> Input:
    return [tuple(given[0]), *given[1:]]


def _first_list(given: Input) -> Input:
    return [list(map(tuple, given[0])), given[1]]


def _second(given: Input) -> Input:
    return [given[0], tuple(given[1])]


def _sets(given: Input) -> Input:
    return [[set(item) if isinstance(item, list) and item else {} for item in given[0]]]


def _inner(given: Input) -> Input:
    return [tuple(tuple(item) if isinstance(item, list) else item for item in given[0])]


def _values(given: Input) -> Input:
    return [{key: tuple(value) for key, value in given[0].items()}, *given[1:]]


def _repairs() -> dict[str, Callable[[Input], Any]]:
    by_kind: dict[Callable[[Input], Any], str] = {
        _each: "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 "
               "744 809",
        _each_list: "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780",
        _first_list: "75 413 444 753",
        _second: "106 750",
        _first: "250 307 405 446 617 720 763 808",
        _each_tuple: "259 401 445",
        _deep: "580 615 791",
        _sets: "115",
        _inner: "278",
        _values: "722",
        lambda given: [float(given[0]), complex(given[1])]: "124",
        lambda given: [complex(given[0])]: "252",
    }  # fmt: skip
    return {number: kind for kind, numbers in by_kind.items() for number in numbers.split()}


_REPAIRS = _repairs()
"""MBPP+ inputs whose types JSON does not have: task number -> what makes them again."""


def _literal(value: Any) -> str:
    """Python source of a value; `repr` would write infinity as a name."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, tuple):
        return f"({''.join(_literal(inner) + ', ' for inner in value)})"
    if isinstance(value, set):
        return f"{{{', '.join(map(_literal, value))}}}" if value else "set()"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, float) and repr(value) in ("inf", "-inf", "nan"):
        return f"float({repr(value)!r})"
    return repr(value)

"""What can be said of Python source without running it. Nothing here executes it."""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_LENGTH_ANALYSED = 100_000
"""Characters up to which names are looked for; longer source is left to its run."""
_QUIET = threading.Lock()


@dataclass(frozen=True)
class Parsed:
    """Source as a tree, its annotations removed; `fault` where Python cannot parse it.

    Neither, where that was not tried.
    """

    tree: ast.Module | None = None
    fault: str = ""


def parse(source: str) -> Parsed:
    """Parse `source`; without tree and fault where it is too long or too deep to say here."""
    if len(source) > _LENGTH_ANALYSED:
        return Parsed()
    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Parsed(_without_annotations(ast.parse(source, "<source>")))
    except (SyntaxError, ValueError) as error:
        return Parsed(None, f"{type(error).__name__}: {error}"[:300])
    except (RecursionError, MemoryError):
        return Parsed()


def compile_fault(source: str) -> str:
    """Why Python does not compile `source`; empty where it does."""
    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "<tests>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        return f"{type(error).__name__}: {error}"[:300]
    return ""


_DYNAMIC = frozenset({"exec", "eval", "globals", "locals", "vars", "setattr", "__import__",
                      "__builtins__", "builtins", "importlib"})  # fmt: skip


def undefined_names(program: Parsed, given: frozenset[str] | None) -> tuple[str, ...]:
    """Names that `program` uses and nothing defines: not it, not builtins, not `given`.

    Found by pyflakes. None where names can come from elsewhere: after a star import, or with
    `exec`, `globals()` and the like in the program; nor where `given` is None. Names in
    annotations, which Python may never evaluate, are left to the run.
    """
    tree = program.tree
    if tree is None or given is None or _stars(tree) or _DYNAMIC & _names_used(tree):
        return ()
    from pyflakes.checker import Checker  # type: ignore[import-untyped]
    from pyflakes.messages import UndefinedName  # type: ignore[import-untyped]

    try:
        found = Checker(tree, builtins=given, withDoctest=False).messages
    except RecursionError:
        return ()
    names = (str(message.message_args[0]) for message in found if type(message) is UndefinedName)
    return tuple(dict.fromkeys(names))


def _without_annotations(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.copy_location(ast.Constant(None), node.annotation)
    return tree


def names_given(*sources: Parsed) -> frozenset[str] | None:
    """Names that these sources bind in their module; None where that cannot be said."""
    given: set[str] = set()
    for source in sources:
        tree = source.tree
        if tree is None or _stars(tree) or _DYNAMIC & _names_used(tree):
            return None
        try:
            given.update(_bound(tree.body))
        except RecursionError:
            return None
    return frozenset(given)


def _bound(body: Iterable[ast.AST]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            for inner in ast.walk(node):
                if isinstance(inner, ast.Global):
                    yield from inner.names
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((a.asname or a.name).partition(".")[0] for a in node.names)
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                yield node.id
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
            yield from _bound(ast.iter_child_nodes(node))
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        elif not isinstance(node, ast.Lambda):
            yield from _bound(ast.iter_child_nodes(node))


def _stars(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names)
        for node in ast.walk(tree)
    )


def _names_used(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | modules(tree)


def modules(tree: ast.AST) -> set[str]:
    """Top-level names of the modules that this source imports anywhere."""
    return {module for _, module in _imported(tree) if module}


def needs_a_name(tests: Parsed, given: frozenset[str]) -> bool:
    """Whether these tests certainly evaluate a name that they do not define themselves.

    Then they cannot pass without a program. `given` are the names that exist in any case.
    False where that is not certain.
    """
    own = names_given(tests)
    if tests.tree is None or own is None:
        return False
    try:
        names = {name for statement in tests.tree.body for name in _evaluated(statement)}
    except RecursionError:
        return False
    return not names <= own | given


def _evaluated(node: ast.AST | None) -> Iterator[str]:
    """Names that are evaluated whenever `node` is evaluated to its end."""
    match node:
        case ast.Name(ctx=ast.Load()):
            yield node.id
        case ast.Expr(value=value) | ast.Assign(value=value) | ast.Assert(test=value):
            yield from _evaluated(value)
        case ast.Attribute(value=value) | ast.Starred(value=value) | ast.Await(value=value):
            yield from _evaluated(value)
        case ast.UnaryOp(operand=value) | ast.keyword(value=value) | ast.IfExp(test=value):
            yield from _evaluated(value)
        case ast.BoolOp(values=values):
            yield from _evaluated(values[0])
        case ast.Compare(left=left, comparators=others):
            yield from _evaluated(left)
            yield from _evaluated(others[0])
        case ast.Call() | ast.BinOp() | ast.Subscript() | ast.Tuple() | ast.List() | ast.Set():
            for child in ast.iter_child_nodes(node):
                yield from _evaluated(child)
        case _:
            return


_STEADY_MODULES = frozenset({
    "abc", "array", "bisect", "cmath", "collections", "contextlib", "copy", "dataclasses",
    "decimal", "enum", "fractions", "functools", "heapq", "itertools", "json", "math", "numbers",
    "operator", "re", "statistics", "string", "struct", "textwrap", "typing", "unicodedata",
})  # fmt: skip
_UNSTEADY = _DYNAMIC | {"id", "open", "input", "compile"}


def steady(*sources: Parsed) -> bool:
    """Whether these sources certainly do the same in each run: no clock, chance, thread or file.

    Python's hash seed is fixed in the sandbox, so the order of a set does not vary. A module
    that is imported and never named is none that is used.
    """
    trees = [source.tree for source in sources if source.tree is not None]
    named = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used = {module for tree in trees for bound, module in _imported(tree) if bound in named | {"*"}}
    return len(trees) == len(sources) and not _UNSTEADY & named and used <= _STEADY_MODULES


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = alias.name.partition(".")[0]
                yield alias.asname or module, module
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, (node.module or "").partition(".")[0]


_SUSPICIOUS = re.compile(
    r"\b(_getframe|currentframe|_current_frames|get_objects|get_referrers|os\._exit|settrace|"
    r"setprofile|ctypes|f_back|tb_frame|__run_script__)\b"
)
_PATCHED = frozenset({"builtins", "__builtins__", "unittest", "math", "json"})


def suspicious(program: Parsed, code: str) -> tuple[str, ...]:
    """Signs of code that games its tests, each once: flagged for a reader, not judged by.

    An `__eq__` (or `__ne__`, `__bool__`) that returns a constant, a patched module or builtin,
    and the names by which a program reaches its caller's frames or leaves early.
    """
    found = dict.fromkeys(_SUSPICIOUS.findall(code))
    for node in ast.walk(program.tree) if program.tree else ():
        match node:
            case ast.FunctionDef(name="__eq__" | "__ne__" | "__bool__", body=body) if any(
                isinstance(inner, ast.Return) and isinstance(inner.value, ast.Constant)
                and inner.value.value is not False
                for inner in body
            ):  # fmt: skip
                found[node.name] = None
            case ast.Attribute(ctx=ast.Store()) if _root(node) in _PATCHED:
                found[f"{ast.unparse(node)} ="] = None
            case _:
                pass
    return tuple(found)


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""

"""Small wrong changes of a program, the same ones each time: an operator, a constant, a result."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

_OPERATORS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Add, ast.Mod: ast.FloorDiv, ast.FloorDiv: ast.Mod, ast.Div: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
WRONG = "no solution returns this"


def mutants(program: str, function: str) -> Iterator[str]:
    """`program` with one change inside `function`, for each place where one can be made."""
    tree = ast.parse(program)
    for index in range(len(_inside(tree, function))):
        mutant = copy.deepcopy(tree)
        if _change(_inside(mutant, function)[index]):
            yield ast.unparse(mutant)


def wrong_result(program: str, function: str) -> str:
    """`program` with another `function`, which does the same and returns something else."""
    return f"{program}\n\n_right = {function}\n\n\ndef {function}(*given, **named):\n" + (
        f"    _right(*given, **named)\n    return {WRONG!r}\n"
    )


def _inside(tree: ast.Module, function: str) -> list[ast.AST]:
    bodies = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function]
    documentation = {id(node.body[0]) for node in bodies if ast.get_docstring(node)}
    return [
        inner
        for node in bodies
        for statement in node.body
        if id(statement) not in documentation
        for inner in ast.walk(statement)
    ]


def _change(node: ast.AST) -> bool:
    """Change `node` where it is an operator or a constant; whether it was."""
    match node:
        case ast.Compare(ops=[first, *rest]) if type(first) in _OPERATORS:
            node.ops = [_OPERATORS[type(first)](), *rest]
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in _OPERATORS:
            node.op = _OPERATORS[type(op)]()
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() as value):
            node.value = value + 1
        case _:
            return False
    return True

"""YAML -> a tree with line numbers, and validation errors -> faults with their lines.

Knows nothing of what a recipe means; `recipe.py` does.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, RootModel, ValidationError

from fusechat.errors import Fault, RecipeError
from fusechat.parts import PartSettingsError, UnknownPartError

Path_ = tuple[Any, ...]


class RecipeFile:
    """A recipe's YAML: its tree, and the line of every key."""

    def __init__(self, path: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.text = _read(path)
        self.lines: dict[Path_, int] = {}
        self.faults: list[Fault] = []
        self.tree = self._parse()
        for key, value in (settings or {}).items():
            self._set(key, value)
        self._fill_in_variables()

    def place(self, path: Path_) -> str:
        """`file:line` of a key, or of the nearest one around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                line = self.lines[path[:length]]
                return f"{self.path}:{line}" if line else "--set"
        return str(self.path)

    def fault(self, path: Path_, message: str) -> Fault:
        """A fault at a key."""
        return Fault(self.place(path), ".".join(str(step) for step in path), message)

    def real_path(self, loc: Path_) -> Path_:
        """The recipe's own key path for pydantic's: steps that no key spells are left out."""
        node: Any = self.tree
        out: list[Any] = []
        for position, step in enumerate(loc):
            there = (isinstance(node, Mapping) and step in node) or (
                isinstance(node, list) and isinstance(step, int) and step < len(node)
            )
            if there:
                node = node[step]
            elif position < len(loc) - 1:
                continue
            out.append("use" if not there and step in ("part", "task") else step)
        return tuple(out)

    def _parse(self) -> dict[str, Any]:
        try:
            root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            problem = f"not YAML: {error.problem}. Look at the indentation and quotes there."
            raise RecipeError([Fault(f"{self.path}:{line}", "", problem)]) from error
        if not isinstance(root, yaml.MappingNode):
            message = "a recipe is a mapping of keys, such as 'name: my-fusion'."
            raise RecipeError([Fault(f"{self.path}:1", "", message)])
        self._walk(root, ())
        tree: dict[str, Any] = yaml.safe_load(self.text)
        return tree

    def _walk(self, node: yaml.Node, path: Path_) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (
                    *path,
                    yaml.safe_load(key.value) if key.tag.endswith(":int") else key.value,
                )
                if inner in self.lines:
                    self.faults.append(
                        Fault(
                            f"{self.path}:{key.start_mark.line + 1}",
                            ".".join(map(str, inner)),
                            f"this key is there twice (first in line {self.lines[inner]}). "
                            "Keep one.",
                        )
                    )
                self.lines[inner] = key.start_mark.line + 1
                self._walk(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self.lines[(*path, index)] = value.start_mark.line + 1
                self._walk(value, (*path, index))

    def _set(self, key: str, value: Any) -> None:
        steps = tuple(key.split("."))
        node: Any = self.tree
        for depth, step in enumerate(steps[:-1]):
            if not isinstance(node.get(step), dict):
                node[step] = {}
                self.lines[steps[: depth + 1]] = 0
            node = node[step]
        node[steps[-1]] = _absolute(value)
        self.lines = {p: n for p, n in self.lines.items() if p[: len(steps)] != steps}
        self.lines[steps] = 0

    def _fill_in_variables(self) -> None:
        variables = self.tree.pop("variables", None) or {}
        used: set[str] = set()
        for path, value in list(_leaves(self.tree, ())):
            if isinstance(value, str) and "${" in value:
                _replace(self.tree, path, self._filled(path, value, variables, used))
        for name in variables:
            if name not in used:
                message = f"nothing uses ${{{name}}}. Remove it, or use it in a value."
                self.faults.append(self.fault(("variables", name), message))

    def _filled(self, path: Path_, value: str, variables: Mapping[str, Any], used: set[str]) -> Any:
        def text_of(match: re.Match[str]) -> str:
            name = match.group(1)
            if name not in variables:
                hint = _near(name, list(variables))
                self.faults.append(self.fault(path, f"there is no variable '{name}'. {hint}"))
                return match.group(0)
            used.add(name)
            return str(variables[name])

        return re.sub(r"\$\{(\w+)\}", text_of, value)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = f"cannot be read: {error.strerror}. Give the path of a recipe file."
        raise RecipeError([Fault(str(path), "", reason)]) from error
    except UnicodeDecodeError as error:
        raise RecipeError([Fault(str(path), "", f"is not UTF-8 text: {error}.")]) from error


def _absolute(value: Any) -> Any:
    """A path given on the command line is relative to the current folder."""
    if isinstance(value, str) and value and ("/" in value or "." in value):
        here = Path(value).expanduser()
        if here.exists():
            return str(here.resolve())
    return value


def _leaves(node: Any, path: Path_) -> Iterator[tuple[Path_, Any]]:
    items: Any = ()
    if isinstance(node, Mapping):
        items = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    else:
        yield path, node
    for key, value in items:
        yield from _leaves(value, (*path, key))


def _replace(tree: Any, path: Path_, value: Any) -> None:
    for step in path[:-1]:
        tree = tree[step]
    tree[path[-1]] = value


def faults_of(file: RecipeFile, error: ValidationError, prefix: Path_, model: Any) -> list[Fault]:
    """All faults in a validation error, those inside parts included."""
    out: list[Fault] = []
    for item in error.errors():
        loc = (*prefix, *item["loc"])
        cause = (item.get("ctx") or {}).get("error")
        if isinstance(cause, PartSettingsError):
            out += faults_of(file, cause.error, loc, cause.cls)
            continue
        path = file.real_path(loc)
        if isinstance(cause, UnknownPartError) and path[-1] != "use":
            path = (*path, "use")
        out.append(file.fault(path, _message(item, model, item["loc"])))
    return out


def _message(item: Any, model: Any, loc: Sequence[Any]) -> str:
    text = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        owner = _model_at(model, loc[:-1])
        known = _known_keys(owner)
        return f"there is no key '{loc[-1]}' here. {_near(str(loc[-1]), known)}"
    if item["type"] == "missing":
        return "this key is needed, and is not there."
    if item["type"] == "value_error":
        return text
    return f"{text} (it is {item['input']!r})."


def _known_keys(model: Any) -> list[str]:
    fields = getattr(model, "model_fields", {})
    return list(fields)


def _model_at(hint: Any, loc: Sequence[Any]) -> Any:
    """The model class that a location inside `hint` belongs to; None where it cannot be told."""
    hint = _bare(hint)
    if isinstance(hint, type) and issubclass(hint, RootModel):
        return _model_at(hint.model_fields["root"].annotation, loc)
    if not loc:
        return hint if isinstance(hint, type) and issubclass(hint, BaseModel) else None
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        field = hint.model_fields.get(str(loc[0]))
        return _model_at(field.annotation, loc[1:]) if field else None
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (dict, list, tuple) and arguments:
        return _model_at(arguments[1 if typing.get_origin(hint) is dict else 0], loc[1:])
    return None


def _bare(hint: Any) -> Any:
    if typing.get_origin(hint) is Annotated:
        return _bare(typing.get_args(hint)[0])
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        inner = [a for a in typing.get_args(hint) if a is not type(None)]
        return _bare(inner[0])
    return hint


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"There are: {', '.join(known)}." if known else ""

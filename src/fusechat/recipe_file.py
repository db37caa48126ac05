"""YAML -> a tree with line numbers, and validation errors -> faults with their lines.

Knows nothing of what a recipe means; `recipe.py` does.
"""

from __future__ import annotations

import copy
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

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any] | None = None,
        what: str = "recipe",
        method: str | None = None,
    ) -> None:
        self.path, self.what, self.method = path, what, method
        self.text = _read(path, what)
        self.lines: dict[Path_, int] = {}
        self.faults: list[Fault] = []
        self.waiting: set[str] = set()
        """Dotted keys whose value needs a variable that has none."""
        self.tree = self._parse()
        for key, value, origin in self._of_method():
            self._set(key, value, origin)
        for key, value in (settings or {}).items():
            self._set(key, _absolute(value))
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
            if root is None or not isinstance(root, yaml.MappingNode):
                message = f"a {self.what} is a mapping of keys, such as '{_SUCH_AS[self.what]}'."
                raise RecipeError([Fault(f"{self.path}:1", "", message)])
            self._walk(root, (), ())
            tree: dict[str, Any] = yaml.safe_load(self.text)
        except yaml.YAMLError as error:
            raise RecipeError([self._not_yaml(error)]) from error
        return tree

    def _not_yaml(self, error: yaml.YAMLError) -> Fault:
        mark = getattr(error, "problem_mark", None)
        line = (
            mark.line + 1 if mark else self.text.count("\n", 0, getattr(error, "position", 0)) + 1
        )
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        mend = "Look at the indentation and quotes there."
        if "'\\t'" in problem:
            mend = "YAML indents with spaces: replace the tab by two of them."
        return Fault(f"{self.path}:{line}", "", f"not YAML: {problem}. {mend}")

    def _walk(self, node: yaml.Node, path: Path_, above: tuple[yaml.Node, ...]) -> None:
        if node in above:
            raise yaml.MarkedYAMLError(
                problem="an alias stands inside what it names", problem_mark=node.start_mark
            )
        above = (*above, node)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*path, _key_of(key))
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
                self._walk(value, inner, above)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self.lines[(*path, index)] = value.start_mark.line + 1
                self._walk(value, (*path, index), above)

    def _of_method(self) -> list[tuple[str, Any, Path_]]:
        """What the method changes: (dotted key, value, key path of it in the file)."""
        if self.method is None:
            return []
        methods = self.tree.get("methods")
        known = [str(name) for name in methods] if isinstance(methods, Mapping) else []
        if not isinstance(methods, Mapping) or self.method not in known:
            there = near(self.method, known) or "The recipe has no section 'methods'."
            message = f"there is no method '{self.method}'. {there}"
            self.faults.append(self.fault(("methods",), message))
            return []
        if isinstance(self.tree.get("name"), str):
            self.tree["name"] += f"-{self.method}"
        entry = methods[self.method]
        given = entry.get("set") if isinstance(entry, Mapping) else None
        at = ("methods", self.method, "set")
        if not isinstance(given, Mapping):
            return []  # where it is there, and no mapping, the recipe's own form is at fault
        return [(str(key), copy.deepcopy(value), (*at, key)) for key, value in given.items()]

    def _set(self, key: str, value: Any, origin: Path_ | None = None) -> None:
        """Change one key; a number is a place in a list, and a key may have dots in it.

        `origin`: the key path at which a method says so; None where the command line does.
        """
        line = self.lines.get(origin, 1) if origin else 0
        node: Any = self.tree
        path: Path_ = ()
        rest = key.split(".")
        try:
            step, rest = _next_step(node, rest)
            while rest:
                path = (*path, step)
                if isinstance(node, list) or isinstance(node.get(step), (dict, list)):
                    node = node[step]
                else:
                    node[step] = node = {}
                    self.lines[path] = line
                step, rest = _next_step(node, rest)
        except LookupError as error:
            place = f"{self.path}:{line}" if origin else "--set"
            self.faults.append(Fault(place, key, str(error.args[0])))
            return
        path = (*path, step)
        node[step] = value
        self.lines = {p: n for p, n in self.lines.items() if p[: len(path)] != path}
        inside = len(origin or ())
        below = {p[inside:]: n for p, n in self.lines.items() if origin and p[:inside] == origin}
        self.lines |= {(*path, *rest): n for rest, n in {**below, (): line}.items()}

    def _fill_in_variables(self) -> None:
        variables = self.tree.pop("variables", None) or {}
        if not isinstance(variables, dict):
            message = "variables are names with values, such as '{data: my-folder}'."
            self.faults.append(self.fault(("variables",), message))
            variables = {}
        used: set[str] = set()
        for path, value in list(_leaves(self.tree, ())):
            if isinstance(value, str) and "${" in value:
                _replace(self.tree, path, self._filled(path, value, variables, used))
        for name in variables:
            if name in used and variables[name] is None:
                message = f"this has no value. Give it: --set variables.{name}=VALUE"
                self.faults.append(self.fault(("variables", name), message))
            elif name not in used:
                message = f"nothing uses ${{{name}}}. Remove it, or use it in a value."
                self.faults.append(self.fault(("variables", name), message))

    def _filled(self, path: Path_, value: str, variables: Mapping[str, Any], used: set[str]) -> Any:
        def text_of(match: re.Match[str]) -> str:
            name = match.group(1)
            if name not in variables:
                hint = near(name, list(variables))
                self.faults.append(self.fault(path, f"there is no variable '{name}'. {hint}"))
                return match.group(0)
            used.add(name)
            if variables[name] is None:
                self.waiting.add(".".join(map(str, path)))
                return match.group(0)
            return str(variables[name])

        return re.sub(r"\$\{(\w+)\}", text_of, value)


def _key_of(key: yaml.Node) -> Any:
    if not isinstance(key, yaml.ScalarNode):
        raise yaml.MarkedYAMLError(
            problem="a key must be a word, and is a list or mapping", problem_mark=key.start_mark
        )
    return yaml.safe_load(key.value) if key.tag.endswith(":int") else key.value


def _next_step(node: Any, rest: list[str]) -> tuple[Any, list[str]]:
    """The next key on a dotted way, and what is left: the longest that is there, else one word.

    Raises `LookupError` with the mend where a list has no such place.
    """
    if isinstance(node, list):
        if rest[0].isdigit() and int(rest[0]) < len(node):
            return int(rest[0]), rest[1:]
        raise LookupError(f"'{rest[0]}' is no place in this list. Give 0 to {len(node) - 1}.")
    if not isinstance(node, dict):
        raise LookupError(f"'{rest[0]}' is below '{node}', which has no keys.")
    for length in range(len(rest), 1, -1):
        if (name := ".".join(rest[:length])) in node:
            return name, rest[length:]
    return rest[0], rest[1:]


_SUCH_AS = {"recipe": "name: my-fusion", "cluster file": "default: {processes: 2}"}


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = f"cannot be read: {error.strerror}. Give the path of a {what}."
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


def faults_of(
    file: RecipeFile,
    error: ValidationError,
    prefix: Path_,
    model: Any,
    beside: tuple[str, ...] = (),
) -> list[Fault]:
    """All faults in a validation error, those inside parts included.

    `beside`: keys that may stand beside those of `model` (a part's entry).
    """
    out: list[Fault] = []
    deeper = {item["loc"] for item in error.errors()}
    for item in error.errors():
        loc = (*prefix, *item["loc"])
        cause = (item.get("ctx") or {}).get("error")
        if isinstance(cause, PartSettingsError):
            entry = _model_at(model, item["loc"][:-1])
            out += faults_of(file, cause.error, loc, cause.cls, tuple(_known_keys(entry)))
            continue
        if item["type"] == "too_short" and any(
            len(other) > len(item["loc"]) and other[: len(item["loc"])] == item["loc"]
            for other in deeper
        ):
            continue  # of those that are there, the faults are said
        if item["type"] not in ("missing", "extra_forbidden"):
            loc = tuple(step for step in loc if not _LABEL.fullmatch(str(step)))
        path = file.real_path(loc)
        if isinstance(cause, UnknownPartError) and path[-1] != "use":
            path = (*path, "use")
        out.append(file.fault(path, _message(item, model, item["loc"], beside)))
    return out


_LABEL = re.compile(r"\[key\]|int|str|(dict|list|tuple)\[.*\]")
"""Steps of pydantic's that are no keys: the name of an entry, a member of a union."""


_WANTED = {
    "string_type": "a text in quotes",
    "dict_type": "a mapping of names, such as '{name: {...}}'",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "tuple_type": "a list",
    "list_type": "a list",
}
"""What a value of another kind should have been."""
_NAMES = "A name is letters, digits, '_', '-' and '.', at most 60, with a letter or digit first."


def _message(item: Any, model: Any, loc: Sequence[Any], beside: tuple[str, ...]) -> str:
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        known = [*_known_keys(_model_at(model, loc[:-1])), *(beside if len(loc) == 1 else ())]
        return f"there is no key '{loc[-1]}' here. {near(str(loc[-1]), known)}"
    if kind == "string_type" and loc and loc[-1] == "[key]":
        return f"a name must be a text, and YAML reads {value!r} here. Put it in quotes."
    if kind in _WANTED and value is None:
        return f"this is empty. Give {_WANTED[kind]}, or remove the key."
    messages = {
        "missing": "this key is needed, and is not there.",
        "too_short": "this is empty. Name at least one, or remove the key.",
        "int_parsing": f"this must be a whole number; it is {value!r}.",
        "value_error": str(item["msg"]).removeprefix("Value error, "),
        "string_too_long": f"'{value}' is too long. {_NAMES}",
        "string_pattern_mismatch": f"'{value}' cannot be a name. {_NAMES}",
    }
    if kind in _WANTED:
        return f"this must be {_WANTED[kind]}; it is {value!r}."
    return messages.get(kind, f"{item['msg']} (it is {value!r}).")


def _known_keys(model: Any) -> list[str]:
    fields = getattr(model, "model_fields", {})
    return [name for name in fields if name not in ("part", "task")]


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


def near(name: str, known: Sequence[str]) -> str:
    """The name that was meant, or all that there are."""
    known = [one for one in known if one != name]  # a key of other parts of the same place
    found = difflib.get_close_matches(name, known, 1)
    if found:
        return f"Did you mean '{found[0]}'?"
    return f"There are: {', '.join(known)}." if known else ""

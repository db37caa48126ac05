"""The tasks of HumanEval and MBPP, from files that the user has or from the hub."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fusechat.annotators import _code_evalplus as _evalplus
from fusechat.annotators._code_forms import PromptTests, joined, read_tests
from fusechat.errors import Fault, FusechatError, MissingExtraError, RecipeError

TaskName = Literal["humaneval", "mbpp"]
_PREFIX: dict[str, str] = {"humaneval": "HumanEval", "mbpp": "Mbpp"}
_RELEASES: dict[str, str] = {
    "humaneval": "HumanEvalPlus-v0.1.10.jsonl.gz from github.com/evalplus/humanevalplus_release",
    "mbpp": "MbppPlus-v0.2.0.jsonl.gz from github.com/evalplus/mbppplus_release",
}
_HUB: dict[str, str] = {"humaneval": "evalplus/humanevalplus", "mbpp": "evalplus/mbppplus"}


@dataclass(frozen=True)
class CodeTask:
    """One task: its tests, and the solution that they must let pass."""

    task_id: str
    row: Mapping[str, Any]

    @property
    def plus(self) -> bool:
        """Whether its tests are EvalPlus's inputs."""
        return "plus_input" in self.row

    @cached_property
    def tests(self) -> PromptTests:
        """Python source that runs after a solution."""
        if self.plus:
            return PromptTests(_evalplus.plus_tests(self.task_id, self.row))
        kept = {key: self.row[key] for key in ("test", "test_list", "entry_point") if
                key in self.row}  # fmt: skip
        if "test" in kept:
            kept.pop("test_list", None)
        setup = {key: self.row[key] for key in ("test_imports", "test_setup_code") if
                 self.row.get(key)}  # fmt: skip
        return read_tests(json.dumps(kept | setup))

    @property
    def reference(self) -> str:
        """The task's own solution, a whole program."""
        if "canonical_solution" in self.row:
            return joined(self.tests.setup, _evalplus.reference(self.row))
        return joined(self.tests.setup, str(self.row["code"]))


def task_key(task: str, given: str | int) -> str:
    """`HumanEval/7` for `7`, `"7"` and `"HumanEval/7"`."""
    number = str(given).rpartition("/")[2]
    right = str(given) in (number, f"{_PREFIX[task]}/{number}")
    return f"{_PREFIX[task]}/{number}" if right else str(given)


def load_tasks(task: TaskName, data_dir: Path | None) -> tuple[dict[str, CodeTask], str]:
    """All tasks by id, and where they are from.

    With `data_dir`: the file in it that is called as a release, the one with more tests first.
    Without: the hub, by the package `datasets`. Raises `FusechatError` where there are none.
    """
    if data_dir is None:
        rows: Iterable[Any] = _from_hub(task)
        origin = f"the hub's {_HUB[task]}"
    else:
        path = _find(task, data_dir)
        rows, origin = _read(path), str(path)
    tasks = {}
    for row in rows:
        key = task_key(task, row["task_id"])
        tasks[key] = CodeTask(key, row)
    return tasks, origin


def _find(task: str, folder: Path) -> Path:
    plus, plain = {
        "humaneval": ("humanevalplus", "humaneval"),
        "mbpp": ("mbppplus", "mbpp"),
    }[task]
    files = sorted(
        path for path in (folder.iterdir() if folder.is_dir() else ())
        if path.name.lower().endswith((".jsonl", ".jsonl.gz"))
    )  # fmt: skip
    names: tuple[Callable[[str], bool], ...] = (
        lambda stem: stem.startswith(plus) and "mini" not in stem and "extreme" not in stem,
        lambda stem: stem.startswith(plain) and not stem.startswith(plus),
    )
    for matches in names:
        found = [p for p in files if matches(p.name.lower().partition(".jsonl")[0].replace("-", "")
                                             .replace("_", "").replace("+", "plus"))]  # fmt: skip
        if found:
            return found[-1]
    raise RecipeError([Fault(str(folder), "", f"no tests of {task}. {_how_to_get(task)}")])


def _how_to_get(task: str) -> str:
    plain = {"humaneval": "HumanEval.jsonl", "mbpp": "mbpp.jsonl"}[task]
    return (
        f"Put {_RELEASES[task]} (or the smaller {plain}) into a folder and name it with "
        "--data-dir, or leave --data-dir out to take them from the hub (pip install "
        "'fusechat[hub]')."
    )


def _read(path: Path) -> list[Any]:
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    rows = []
    try:
        with opened(path, "rt", encoding="utf-8") as handle:
            for number, line in enumerate(handle, start=1):
                if line.strip():
                    rows.append(_row(json.loads(line), f"{path}:{number}"))
    except (OSError, EOFError, ValueError) as error:
        raise RecipeError(
            [Fault(str(path), "", f"cannot be read: {error}. Fetch the file again.")]
        ) from error
    return rows


def _row(row: Any, place: str) -> Any:
    forms = ({"entry_point", "prompt", "canonical_solution", "base_input", "plus_input", "atol"},
             {"entry_point", "prompt", "canonical_solution", "test"},
             {"code", "test_list"}, {"code", "test"})  # fmt: skip
    if not isinstance(row, dict) or not any({"task_id", *form} <= row.keys() for form in forms):
        raise ValueError(f"{place} is no task of HumanEval or MBPP as their releases have them")
    return row


def _from_hub(task: str) -> Iterable[Any]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(f"tests of {task} from the hub", "datasets", "hub") from error
    try:
        loaded = datasets.load_dataset(_HUB[task], split="test")
    except Exception as error:  # the library raises what its network stack raises
        raise FusechatError(
            f"the hub's {_HUB[task]} cannot be had: {type(error).__name__}: {error}. "
            f"{_how_to_get(task)}"
        ) from error
    return [_row(dict(row), f"{_HUB[task]}, row {n}") for n, row in enumerate(loaded, start=1)]

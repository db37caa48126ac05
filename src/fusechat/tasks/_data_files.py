"""The benchmarks' files as one catalogue: what each needs, what is there, and which version."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from fusechat.errors import FusechatError
from fusechat.parts import part_class, part_names
from fusechat.tasks._benchmark import Benchmark
from fusechat.tasks._catalogue import DataFile, sha256_of

Hash = Literal["known", "changed", "unknown", ""]
"""Of a file that is there: one of the known digests, none of them, or no digest is known."""


def benchmark_tasks() -> dict[str, type[Benchmark]]:
    """Name -> class of the benchmarks among the tasks, found by file, by name."""
    classes = {name: part_class("tasks", name) for name in part_names("tasks")}
    return {name: one for name, one in classes.items() if issubclass(one, Benchmark)}


def hub_id(task: str, role: str = "items") -> str:
    """The hub's data set of a benchmark's file; raises `ValueError` where it names none."""
    cls = part_class("tasks", task)
    if issubclass(cls, Benchmark):
        for file in cls.data:
            if file.role == role and file.hub is not None:
                return file.hub[0]
    raise ValueError(f"tasks/{task}.py names no hub set for its file '{role}'")


def is_private(task: type[Benchmark]) -> bool:
    """Whether no text of its items may stand in a report, and none of its files is fetched."""
    return bool(getattr(task, "private", False))


@dataclass(frozen=True)
class FileState:
    """One file of one benchmark on this machine."""

    benchmark: str
    title: str
    role: str
    name: str
    """Its likeliest path below the folder of the data."""
    path: str | None
    """Where it is; None where it is missing."""
    optional: bool
    licence: str
    items: int | None
    home: str
    hash: Hash
    version: str
    """Which of the known versions it is."""
    sha256: str
    hub: str
    """`ID/FILE@COMMIT`, where the hub has it."""
    fetch: str
    """Path below the folder at which `--fetch` puts it; empty where it fetches none."""


def file_states(tasks: Iterable[str], data_dir: str | None) -> Iterator[FileState]:
    """The files of the named benchmarks, in the order of the names and of each one's `data`."""
    known = benchmark_tasks()
    for name in tasks:
        for file in known[name].data:
            yield _state(name, known[name], file, data_dir)


def _state(name: str, task: type[Benchmark], file: DataFile, data_dir: str | None) -> FileState:
    path = file.find(data_dir)
    sha = sha256_of(path) if path is not None else ""
    target = None if is_private(task) else fetch_target(file)
    return FileState(
        benchmark=name, title=task.title, role=file.role, name=file.names[0],
        path=None if path is None else str(path), optional=file.optional, licence=file.licence,
        items=file.items, home=file.home, hash=_hash(file, sha), version=file.sha256.get(sha, ""),
        sha256=sha, hub=hub_place(file), fetch="" if target is None else str(target),
    )  # fmt: skip


def _hash(file: DataFile, sha: str) -> Hash:
    if not sha:
        return ""
    if not file.sha256:
        return "unknown"
    return "known" if sha in file.sha256 else "changed"


def hub_place(file: DataFile) -> str:
    """`ID/FILE@COMMIT`; empty where the hub does not have it at a known commit."""
    if file.hub is None or file.revision is None:
        return ""
    inner = "" if file.hub[1] == "." else f"/{file.hub[1]}"
    return f"{file.hub[0]}{inner}@{file.revision}"


def fetch_target(file: DataFile) -> PurePosixPath | None:
    """Where below the folder the hub's file is put, so that `find` finds it; None where it is not
    on the hub at a known commit, or not in a form that the benchmark looks for."""
    if file.hub is None or file.revision is None:
        return None
    if file.hub[1] == ".":
        return PurePosixPath(file.names[0])
    source = PurePosixPath(file.hub[1])
    for pattern in map(PurePosixPath, file.names):
        if "*" not in str(pattern) and pattern.suffix == source.suffix:
            return pattern
        if "*" not in str(pattern.parent) and fnmatch.fnmatchcase(source.name, pattern.name):
            return pattern.with_name(source.name)
    return None


def as_json(states: Iterable[FileState], data_dir: str | None) -> list[dict[str, Any]]:
    """One entry for each benchmark: its files, why it must be `skipped` (null where it need not),
    and what of it `lacks`."""
    known, found = benchmark_tasks(), {}
    for state in states:
        told = asdict(state)
        name, title = told.pop("benchmark"), told.pop("title")
        if name not in found:
            skipped, lacks = _needs(known[name], data_dir)
            found[name] = {"benchmark": name, "title": title, "skipped": skipped, "lacks": lacks}
            found[name]["files"] = []
        found[name]["files"].append(told)
    return list(found.values())


def _needs(task: type[Benchmark], data_dir: str | None) -> tuple[str | None, list[str]]:
    part = task.model_validate({"data_dir": data_dir})
    skipped = part.missing()
    try:
        return skipped, [] if skipped else part.lacks()
    except FusechatError as error:  # a file that cannot be read says so itself
        return skipped, [str(error)]

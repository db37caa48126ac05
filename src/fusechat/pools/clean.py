"""Unit folders of a workspace that no run refers to: found, and removed when asked.

A unit's folder is one with a `unit.json`. Runs refer to folders in `runs/*/plan.json`, finished or
not; anything else in a workspace (`runs/`, `pilots/`, files of yours) is never touched.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fusechat.errors import DamagedError
from fusechat.executors.leases import holder_is_gone
from fusechat.files import read_json, sync_folder
from fusechat.locks import workspace_lock

GONE = ".removed-"
"""Beginning of a folder's name while it is removed; one that a kill left goes next time."""


@dataclass(frozen=True)
class Unused:
    """A unit's folder that no run refers to."""

    folder: Path
    name: str
    """Relative to the workspace."""
    size: int
    """Bytes of its files."""
    age: float
    """Seconds since its `unit.json` was written."""
    adoptable: bool
    """Whether it holds rows that another run could take over."""


def unused(workspace: Path, now: float | None = None) -> list[Unused]:
    """The unused folders of a workspace, the largest first.

    Raises `DamagedError` where a run's plan cannot be read: what it refers to is not known then.
    """
    kept, now = _referred(workspace), time.time() if now is None else now
    found = [
        _unused(workspace, folder, now)
        for folder in _units(workspace)
        if folder not in kept and not _worked_on(folder)
    ]
    return sorted(found, key=lambda one: (-one.size, one.name))


def clean(workspace: Path, wait: bool = False) -> list[Unused]:
    """Remove the unused folders, while no run holds the workspace; returns what is gone.

    Each is renamed before it is removed, so that a kill leaves no half of a unit behind.
    """
    with workspace_lock(workspace, "clean", wait):
        for left in workspace.rglob(f"{GONE}*"):
            shutil.rmtree(left, ignore_errors=True)
        found = unused(workspace)
        for one in found:
            gone = one.folder.with_name(f"{GONE}{one.folder.name}")
            one.folder.rename(gone)
            sync_folder(gone.parent)
            shutil.rmtree(gone)
            _remove_empty(gone.parent, workspace)
    return found


def _referred(workspace: Path) -> set[Path]:
    """Folders that a run's plan names."""
    out = set()
    for path in sorted(workspace.glob("runs/*/plan.json")):
        plan = read_json(path)
        if not isinstance(plan, dict) or not isinstance(plan.get("units"), list):
            raise DamagedError(path, "it is no plan", "Write it again: fusechat run RECIPE")
        out |= {workspace / unit["folder"] for unit in plan["units"]}
    return out


def _units(workspace: Path) -> Iterator[Path]:
    for path in sorted(workspace.rglob("unit.json")):
        inside = path.relative_to(workspace).parts
        if inside[0] not in ("runs", "pilots") and not any(p.startswith(".") for p in inside):
            yield path.parent


def _worked_on(folder: Path) -> bool:
    """Whether a worker may hold a shard: one is not known to be dead. No clock is asked."""
    leases = (folder / "journal").glob("*.lease.*")
    return any(not holder_is_gone(path.read_bytes()) for path in leases)


def _unused(workspace: Path, folder: Path, now: float) -> Unused:
    size = sum(
        os.stat(os.path.join(top, name), follow_symlinks=False).st_size
        for top, _, names in os.walk(folder)
        for name in names
    )
    said = read_json(folder / "unit.json")
    rows = any((folder / name).exists() for name in ("data", "journal", "set-aside"))
    return Unused(
        folder, folder.relative_to(workspace).as_posix(), size,
        now - (folder / "unit.json").stat().st_mtime,
        rows and said.get("kind") in ("sample", "annotate"),
    )  # fmt: skip


def _remove_empty(folder: Path, workspace: Path) -> None:
    while folder != workspace and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def listing(found: list[Unused]) -> Iterator[str]:
    """A table for the terminal: size, age, folder; the total last."""
    for one in found:
        mark = "  (rows that another run could take over)" if one.adoptable else ""
        yield f"{readable(one.size):>10}  {_age(one.age):>8}  {one.name}{mark}"
    yield f"{readable(sum(one.size for one in found)):>10}  in {len(found)} folders"


def readable(size: float) -> str:
    """Bytes in the unit that leaves fewest digits."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return "new"

"""Workers beside a run: other processes, on any machine that sees the workspace, take shards too.

A worker computes shards of one row-wise unit and nothing else: it never writes a manifest. The run
plans, takes shards as well, waits for those of workers, takes over what dead ones held, and
closes the unit. Of a training unit the workers are its ranks, which torchrun or accelerate started
together; they hold the workspace while they train, and the next run closes the unit.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from fusechat.errors import FusechatError, StaleInputError
from fusechat.executors.leases import link_new
from fusechat.executors.rows import JobResult, RowExecutor
from fusechat.files import read_json, write_json
from fusechat.locks import lock_holder, workspace_lock
from fusechat.planner import Plan, Unit, content_digest, standing, wanted_units
from fusechat.planner import plan as make_plan
from fusechat.progress import Progress
from fusechat.recipe import Cluster, Recipe
from fusechat.stages.rowwise import work as work_on
from fusechat.unit_contexts import open_executor, resolved, unit_context, where_of
from fusechat.unit_folders import REFRESHED, check_whole, same_rows, unit_said

LOOKS = 2.0
"""Seconds between two looks at whether the run has come to the unit."""
TRAINED = ("train_sft", "train_dpo")
"""Kinds of units that are trained; the stages are called the same."""


def work(
    recipe: Recipe,
    workspace: str | Path,
    name: str,
    *,
    cluster: Cluster | None = None,
    stream: TextIO | None = None,
    executor: RowExecutor | None = None,
) -> JobResult | None:
    """Compute shards of the unit `name` until none is left to take; None where it is done.

    A training unit is trained to its end, by this process as one of the ranks that a launcher
    started, or by itself; None again.

    `executor`: what computes them, closed at the end; none: as the cluster says.

    Where a run holds the workspace and has not come to the unit yet, this waits for it.

    Raises `StaleInputError` with the command to run first where nothing makes the unit's inputs,
    `FusechatError` where there is no such row-wise unit.
    """
    planned, cluster = make_plan(recipe, workspace), cluster or Cluster()
    unit = _unit(planned, name)
    if unit.kind in TRAINED:
        _train(planned, unit, cluster, stream)
        return None
    progress = Progress(name, None, stream)
    said = _ready(planned, unit, progress)
    if said is None:
        progress.note("is done; there is nothing to do")
        return None
    where = where_of(planned, unit, cluster)
    executor = executor or open_executor(cluster, where)
    file = planned.path(unit) / "unit.json"
    try:
        context = unit_context(planned, unit, where, executor, progress)
        result = work_on(context, lambda: _is_still(file, said))
    finally:
        executor.close()
        progress.close()
    progress.note(f"{result.stopped or 'no shard is left to take'}. A run closes the unit.")
    return result


def _train(planned: Plan, unit: Unit, cluster: Cluster, stream: TextIO | None) -> None:
    """Train a unit as one of several ranks; the first holds the workspace meanwhile."""
    from fusechat.stages.train_ranks import train_here_or_on_ranks
    from fusechat.training.ranks import leave_ranks

    first = os.environ.get("RANK", "0") == "0"
    folder = planned.path(unit)
    file = folder / "progress.json"
    progress = Progress(unit.name, file, stream) if first else Progress(unit.name)
    name = planned.recipe.name
    try:
        with workspace_lock(planned.workspace, name, False) if first else nullcontext():
            if _ready(planned, unit, progress, holding=first) is None:
                progress.note("is done; there is nothing to do")
                return
            context = unit_context(planned, unit, where_of(planned, unit, cluster), None, progress)
            settings = context.settings["train"]
            train_here_or_on_ranks(replace(context, settings=settings), unit.kind)
    finally:
        progress.close()
        leave_ranks()
    progress.note("is trained. A run closes the unit.")


def _unit(planned: Plan, name: str) -> Unit:
    """The unit of this name; raises where there is none, or none that workers can do."""
    unit = next((unit for unit in planned.units if unit.name == name), None)
    if unit is None:
        wanted_units(planned, name)  # raises with the nearest name, or passes where it is a group
    if unit is None or not (unit.rowwise or unit.kind in TRAINED):
        names = ", ".join(u.name for u in planned.units if u.rowwise or u.kind in TRAINED)
        raise FusechatError(f"'{name}' is no unit that workers can share. There are: {names}.")
    return unit


def _ready(
    planned: Plan, unit: Unit, progress: Progress, holding: bool = False
) -> dict[str, Any] | None:
    """What `unit.json` says once the unit can be worked on; None where it is done.

    `holding`: this process holds the workspace itself, so that there is no run to wait for.
    """
    shown = ""
    while True:
        if standing(planned, unit).state == "done":
            return None
        found = _obstacle(planned, unit) or _begun(planned, unit)
        if isinstance(found, dict):
            return found
        if holding or lock_holder(planned.workspace) is None:
            # It may have ended between the two looks, having made what was missing.
            found = _obstacle(planned, unit) or _begun(planned, unit)
            if not isinstance(found, str):
                continue
            raise StaleInputError(f"{unit.name}: {found}. Start: fusechat run RECIPE")
        if found != shown:
            progress.note(f"{found}; waiting for the run that holds the workspace")
        shown = found
        time.sleep(LOOKS)


def _obstacle(planned: Plan, unit: Unit) -> str | None:
    """Why a unit cannot be worked on yet; None where it can."""
    for name in unit.inputs:
        if content_digest(planned.path(planned[name])) is None:
            return f"it needs {name}, which is not done"
    folder = planned.path(unit)
    if (folder / "manifest.json").exists():
        return "a run must take it up first: " + standing(planned, unit).why
    mark = folder / REFRESHED
    if mark.exists() and mark.read_bytes() == b"removing":
        return "its old rows are being removed"
    return None


def _begun(planned: Plan, unit: Unit) -> dict[str, Any] | str:
    """`unit.json`, written here where no run has come to the unit; or why it is another's."""
    digests: dict[str, str] = {}
    for name in unit.inputs:
        folder = planned.path(planned[name])
        check_whole(folder)
        digests[name] = content_digest(folder) or ""
    part = resolved(planned, unit).part.digest() if unit.rowwise else None
    said = unit_said(unit, part, digests)
    file = planned.path(unit) / "unit.json"
    if not file.exists():
        draft = file.with_name(f".unit.{socket.gethostname()}.{os.getpid()}.json")
        write_json(draft, said)
        with suppress(FileExistsError):
            link_new(draft, file)
        draft.unlink(missing_ok=True)
    if not same_rows(read_json(file), said):
        return "its rows were made from other inputs, and a run must set them aside first"
    return said


def _is_still(file: Path, said: Mapping[str, Any]) -> bool:
    """Whether the unit still reads the same inputs, and no run has closed it."""
    closed = file.with_name("manifest.json").exists()
    return not closed and file.exists() and same_rows(read_json(file), said)

"""What one unit's work gets to see: its inputs, its settings, its place; for runs and workers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusechat.errors import PartError
from fusechat.executors.local import LocalExecutor
from fusechat.executors.rows import RowExecutor
from fusechat.parts import RowPart, Where
from fusechat.planner import Plan, Unit, least_margin, standing
from fusechat.progress import Progress
from fusechat.recipe import Cluster
from fusechat.stages.context import UnitContext
from fusechat.stages.entries import LogpsEntry, SourceEntry
from fusechat.stages.select_candidates import CANDIDATES, candidate_folder, number_of
from fusechat.training_units import unit_of
from fusechat.unit_folders import adoptable


def where_of(planned: Plan, unit: Unit, cluster: Cluster) -> Where:
    """Where and how fast a unit runs.

    `processes` of the default is meant for work on the CPU: it gives no source several clients
    (each with `concurrency` requests) or servers, and no GPU several copies of a model.
    """
    where = cluster.where(unit.name)
    found: dict[str, Any] = {"least_margin": least_margin(planned.recipe, unit.name)}
    part = getattr(unit.settings, "part", None)
    if where is cluster.default and isinstance(part, RowPart):
        local = cluster.executor == "local"
        if part.io_bound or (local and part.on_device and where.on_accelerator()):
            found["processes"] = None
    return where.model_copy(update=found)


def open_executor(cluster: Cluster, where: Where) -> RowExecutor:
    """What computes row-wise units, as the cluster file says."""
    if cluster.executor == "ray":
        from fusechat.executors.ray import RayExecutor

        return RayExecutor(cluster.ray.model_dump())
    return LocalExecutor(cluster.default.processes, where.threads)


def check_places(planned: Plan, units: Sequence[Unit], cluster: Cluster) -> None:
    """Look whether all sources that `units` still ask have what they need in this place.

    Raises `PartError` with all that is missing: a server or a key that is found missing only when
    a source's turn comes may cost days.
    """
    faults: list[str] = []
    for unit in (unit for unit in units if isinstance(unit.settings, SourceEntry)):
        found = list(unit.settings.part.place_faults(where_of(planned, unit, cluster)))
        if found and standing(planned, unit).state != "done":
            faults += [f"{unit.name}: {message}" for message in found]
    if faults:
        raise PartError("\n".join([*faults, "Nothing was run."]))


def unit_context(
    planned: Plan, unit: Unit, where: Where, executor: RowExecutor | None, progress: Progress
) -> UnitContext:
    """The context of a unit; options of a run are put into it with `dataclasses.replace`."""
    folder = planned.path(unit)
    inputs = {name: planned.path(planned[name]) for name in unit.inputs}
    return UnitContext(
        name=unit.name,
        folder=folder,
        inputs=_with_model(planned, unit, inputs),
        settings=resolved(planned, unit),
        seed=planned.recipe.seed,
        where=where,
        progress=progress,
        log=logging.getLogger(f"fusechat.{unit.name}"),
        executor=executor if unit.rowwise else None,
        adoptable=lambda part: adoptable(planned.workspace, folder, part),
        max_error_share=_error_share(planned, unit),
    )


def _error_share(planned: Plan, unit: Unit) -> float:
    """Of a benchmark no share of failed rows stops a run: its row is partial, and says it."""
    steps, evaluation = unit.name.split("/"), planned.recipe.evaluate
    names = {task.name for task in evaluation.benchmarks} if evaluation is not None else set()
    of_benchmark = steps[0] == "evaluate" and steps[1] in names
    return 1.0 if of_benchmark else planned.recipe.max_error_share


def resolved(planned: Plan, unit: Unit) -> Any:
    """The unit's settings with trained models replaced by their folders.

    A candidate that is not there is asked for nothing (`stages/select_candidates.py`).
    """
    if unit.kind not in ("sample", "source_logps"):
        return unit.settings
    entry: SourceEntry | LogpsEntry = unit.settings
    model = str(getattr(entry.part, "model", ""))
    if (number := number_of(model)) is not None:
        folder = candidate_folder(planned.path(planned[CANDIDATES]), number)
        if folder is None:
            return entry.model_copy(update={"samples": {}})
    elif (trained := unit_of(model)) is not None:
        folder = planned.path(planned[trained]) / "model"
    else:
        return entry
    return entry.model_copy(update={"part": entry.part.model_copy(update={"model": str(folder)})})


def _with_model(planned: Plan, unit: Unit, inputs: dict[str, Path]) -> dict[str, Path]:
    """For training, and what is held against its reference: the folder of the model that it starts
    from, under the name `model`."""
    if unit.kind not in ("train_sft", "train_dpo", "select") or "model" not in unit.settings:
        return inputs
    base = unit.settings["model"]
    if base is not None:
        return {**inputs, "model": Path(base.model)}
    return {**inputs, "model": planned.path(planned["train/sft"]) / "model"}

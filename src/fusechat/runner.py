"""Run a recipe: for each unit of the plan, skip it if it is done, else do it.

Safe to call again after anything: finished units are skipped, row-wise units go on where
their journals end, training goes on from its last checkpoint.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from fusechat.budget import Budget, Limits
from fusechat.environment import environment, library_versions
from fusechat.errors import FusechatError, StaleInputError
from fusechat.executors.rows import RowExecutor, failed
from fusechat.faultpoints import reach
from fusechat.files import read_json, write_atomic, write_json
from fusechat.forecast.held import tally_of
from fusechat.forecast.limits import check_limits, open_budget
from fusechat.locks import workspace_lock
from fusechat.log_files import log_to
from fusechat.planner import (
    ROWWISE,
    Plan,
    Unit,
    content_digest,
    standing,
    wanted_units,
)
from fusechat.planner import plan as make_plan
from fusechat.progress import Progress
from fusechat.recipe import Cluster, Recipe
from fusechat.results import RunResult as RunResult
from fusechat.results import UnitResult as UnitResult
from fusechat.run_models import named_models
from fusechat.stages.context import UnitContext
from fusechat.tables import read_table
from fusechat.unit_contexts import (
    check_places,
    open_executor,
    resolved,
    unit_context,
    where_of,
)
from fusechat.unit_folders import (
    REFRESHED,
    SET_ASIDE,
    begin_again,
    check_whole,
    finish_removal,
    made_tables,
    remove_tables,
    same_rows,
    set_aside,
    unit_said,
)


@dataclass(frozen=True)
class Options:
    """How a run behaves; none of it changes a result."""

    only: str | None = None
    refresh: str | None = None
    """Do this unit (and what follows from it) again, though it is done."""
    retry_errors: bool = False
    wait: bool = False
    budget: Limits = field(default_factory=Limits)
    """What sampling may take; the sets are built from what is there when it stops."""
    stream: TextIO | None = None
    """Where progress is shown; None is nowhere."""


def run(
    recipe: Recipe,
    workspace: str | Path = "workspace",
    *,
    cluster: Cluster | None = None,
    options: Options | None = None,
    recipe_text: str = "",
) -> RunResult:
    """Run what is missing of a recipe and write its report. Safe to call again.

    Raises `FusechatError`s that say what to mend; all finished work is kept.
    """
    options = options or Options()
    planned = make_plan(recipe, workspace)
    wanted = wanted_units(planned, options.only)
    if options.refresh is not None:
        _check_refresh(planned, wanted, options)
    check_limits(planned, cluster or Cluster(), options.budget)
    check_places(planned, wanted, cluster or Cluster())
    with workspace_lock(planned.workspace, recipe.name, options.wait):
        runner = _Runner(planned, cluster or Cluster(), options)
        folder = runner.open_folder(recipe_text)
        try:
            ran = tuple(unit.name for unit in wanted if runner.do(unit))
        finally:
            runner.close()
        write_report(planned, folder)
    return RunResult(planned, folder, ran)


def _check_refresh(planned: Plan, wanted: list[Unit], options: Options) -> None:
    """Refuse a `refresh` that names no unit, or none that this call would run."""
    assert options.refresh is not None
    wanted_units(planned, options.refresh)  # raises where there is no such unit
    below = options.refresh.rstrip("/") + "/"
    if not any(unit.name == options.refresh or unit.name.startswith(below) for unit in wanted):
        raise FusechatError(
            f"--refresh {options.refresh} is not among what --only {options.only} needs, so it "
            "would do nothing. Leave one of them out."
        )


def run_folder(planned: Plan) -> Path:
    """Where the report and the copies of recipe, plan and environment are."""
    return planned.workspace / "runs" / f"{planned.recipe.name}-{planned.key()}"


def write_report(planned: Plan, folder: Path) -> Path:
    """Write `report.html` from what is finished, and a card beside every trained model."""
    from fusechat.cards.model_card import write_cards
    from fusechat.report import write

    write_cards(folder, planned.workspace)
    return write(folder, planned.workspace)


class _Runner:
    """Does units one after the other, with one executor for all."""

    def __init__(self, planned: Plan, cluster: Cluster, options: Options) -> None:
        self.plan, self.cluster, self.options = planned, cluster, options
        self._executor: RowExecutor | None = None
        self._budget: Budget | None = None

    def open_folder(self, recipe_text: str) -> Path:
        """Write what is known before the first unit runs."""
        folder = run_folder(self.plan)
        folder.mkdir(parents=True, exist_ok=True)
        units = [
            {"name": u.name, "kind": u.kind, "folder": u.folder, "key": u.key, "inputs": u.inputs}
            for u in self.plan.units
        ]
        write_atomic(folder / "recipe.yaml", (recipe_text or self.plan.recipe.text).encode())
        recipe = self.plan.recipe
        said = {"recipe": recipe.name, "models": named_models(recipe), "units": units}
        write_json(folder / "plan.json", said)
        write_json(folder / "environment.json", environment())
        return folder

    def do(self, unit: Unit) -> bool:
        """Do one unit unless it is done; returns whether there was work."""
        folder = self.plan.path(unit)
        if not self._wanted(unit, folder):
            return False
        digests = self._inputs_read(unit)
        self._prepare(unit, folder, digests)
        context = self._context(unit, folder)
        begun = time.monotonic()
        with log_to(context.log, folder / "log.txt"):
            context.log.info("%s begins; key %s", unit.name, unit.key)
            try:
                counts = STAGES[unit.kind](context)
            except BaseException:
                context.log.exception("%s stopped", unit.name)
                raise
            finally:
                context.progress.close()
                self._account(unit, folder)
            self._finish(unit, folder, digests, counts, time.monotonic() - begun)
            context.log.info("%s is done: %s", unit.name, counts)
        context.progress.note(f"done in {time.monotonic() - begun:.1f} s{_headline(unit, counts)}")
        return True

    def close(self) -> None:
        """End the workers."""
        if self._executor is not None:
            self._executor.close()

    def _wanted(self, unit: Unit, folder: Path) -> bool:
        refresh = self.options.refresh
        if refresh and (unit.name == refresh or unit.name.startswith(f"{refresh}/")):
            begin_again(folder)
            return True
        finish_removal(folder)
        if standing(self.plan, unit).state != "done":
            return True
        if not (self.options.retry_errors and unit.rowwise):
            return False
        return any(failed(row) for row in read_table(folder / "data", ROWWISE[unit.kind]))

    def _inputs_read(self, unit: Unit) -> dict[str, str]:
        digests: dict[str, str] = {}
        for name in unit.inputs:
            digest = content_digest(self.plan.path(self.plan[name]))
            if digest is None:
                raise StaleInputError(f"{unit.name} needs {name}, which is not done. Run it first.")
            check_whole(self.plan.path(self.plan[name]))
            digests[name] = digest
        return digests

    def _prepare(self, unit: Unit, folder: Path, digests: Mapping[str, str]) -> None:
        """Set aside rows that were made from other inputs, and say what this attempt reads."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "unit.json"
        part = resolved(self.plan, unit).part.digest() if unit.rowwise else None
        said = unit_said(unit, part, digests)
        if not path.exists() or not same_rows(read_json(path), said):
            (folder / "manifest.json").unlink(missing_ok=True)
            set_aside(folder) if unit.rowwise else remove_tables(folder)
        (folder / "manifest.json").unlink(missing_ok=True)
        write_json(path, said)

    def _context(self, unit: Unit, folder: Path) -> UnitContext:
        where = where_of(self.plan, unit, self.cluster)
        if unit.rowwise and self._executor is None:
            self._executor = open_executor(self.cluster, where)
        progress = Progress(unit.name, folder / "progress.json", self.options.stream)
        context = unit_context(self.plan, unit, where, self._executor, progress)
        context = replace(context, retry_errors=self.options.retry_errors)
        if not (self.options.budget.given() and unit.name.startswith("sample/")):
            return context
        if self._budget is None:
            self._budget = open_budget(self.plan, self.cluster, self.options.budget)
        return replace(context, stop=self._budget.begin(unit.name))

    def _account(self, unit: Unit, folder: Path) -> None:
        """Keep what was spent of the run's limits where `fusechat run` and its user find it."""
        if self._budget is not None and unit.name.startswith("sample/"):
            self._budget.end(unit.name, tally_of(folder))
            write_json(run_folder(self.plan) / "budget.json", self._budget.report())

    def _finish(
        self,
        unit: Unit,
        folder: Path,
        digests: Mapping[str, str],
        counts: Mapping[str, Any],
        seconds: float,
    ) -> None:
        manifest = {
            "unit": unit.name,
            "key": unit.key,
            "tables": made_tables(folder),
            "counts": counts,
            "seconds": round(seconds, 3),
            "inputs": digests,
            "libraries": library_versions(),
        }
        shutil.rmtree(folder / SET_ASIDE, ignore_errors=True)
        (folder / "progress.json").unlink(missing_ok=True)
        shutil.rmtree(folder / "journal", ignore_errors=True)
        (folder / REFRESHED).unlink(missing_ok=True)
        write_json(folder / "manifest.json", manifest)
        reach("manifest.written")


def _headline(unit: Unit, counts: Mapping[str, Any]) -> str:
    """The counts that a watcher wants to see."""
    shown = {
        "prompts": ("prompts",),
        "sample": ("responses", "adopted"),
        "describe": ("responses", "near_duplicates"),
        "decontaminate": ("looked_at", "removed_prompts", "removed_responses"),
        "annotate": ("scores", "status", "adopted"),
        "build": ("sft", "dpo", "reserved", "dropped"),
        "build_on_policy": ("dpo", "dropped"),
        "train_sft": ("rows", "steps"),
        "source_logps": ("responses", "status", "adopted"),
        "train_dpo": ("rows", "steps"),
        "candidates": ("candidates",),
        "select": ("step",),
        "next_turn": ("prompts",),
        "judge_prompts": ("asked",),
        "judge_again": ("asked",),
        "verdicts": ("scores", "status"),
    }.get(unit.kind, ())
    parts = [f"{name} {counts[name]}" for name in shown if counts.get(name)]
    return ": " + ", ".join(parts) if parts else ""


def _stage(module: str, function: str) -> Callable[[UnitContext], dict[str, Any]]:
    """A stage that is imported when it runs, so that data work never imports torch."""

    def call(context: UnitContext) -> dict[str, Any]:
        import importlib

        stage = getattr(importlib.import_module(f"fusechat.stages.{module}"), function)
        counts: dict[str, Any] = stage(context)
        return counts

    return call


def _train(function: str) -> Callable[[UnitContext], dict[str, Any]]:
    def call(context: UnitContext) -> dict[str, Any]:
        from fusechat.stages.train_ranks import train_here_or_on_ranks

        settings = context.settings["train"]
        return train_here_or_on_ranks(replace(context, settings=settings), function)

    return call


STAGES: Mapping[str, Callable[[UnitContext], dict[str, Any]]] = {
    "prompts": _stage("prompts", "read_prompts"),
    "sample": _stage("rowwise", "sample"),
    "describe": _stage("describe", "describe"),
    "decontaminate": _stage("decontaminate", "decontaminate"),
    "annotate": _stage("rowwise", "annotate"),
    "build": _stage("build", "build"),
    "train_sft": _train("train_sft"),
    "build_on_policy": _stage("build", "build_on_policy"),
    "source_logps": _stage("rowwise", "source_logps"),
    "train_dpo": _train("train_dpo"),
    "candidates": _stage("select_candidates", "write_candidates"),
    "select": _stage("select", "select"),
    "next_turn": _stage("next_turn", "next_turn"),
    "judge_prompts": _stage("judging", "judge_prompts"),
    "judge_again": _stage("judging", "judge_again"),
    "verdicts": _stage("judging", "verdicts"),
    "compare": _stage("evaluate", "compare"),
}


def terminal() -> TextIO:
    """Where progress goes by default."""
    return sys.stderr

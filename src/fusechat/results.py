"""What a run left: finished units, their manifests and their rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fusechat.errors import FusechatError
from fusechat.files import read_json
from fusechat.planner import ROWWISE, Plan, Unit
from fusechat.records import Demonstration, Dropped, Pair, Prompt, Record, Score
from fusechat.stages.benchmark_units import Asked, Link
from fusechat.stages.build_rows import dpo_row_type
from fusechat.stages.decontaminate import Contaminated
from fusechat.stages.describe_pairs import NearDuplicate
from fusechat.stages.evaluate import ItemResult
from fusechat.stages.on_policy import Reserved
from fusechat.stages.train_data import ROW_TYPES as TRAINED_ON
from fusechat.tables import read_table

R = TypeVar("R", bound=Record)
ROW_TYPES: dict[str, type[Record]] = {
    "prompts": Prompt,
    "dropped": Dropped,
    "sft": Demonstration,
    "dpo": Pair,
    "items": ItemResult,
    "near_duplicates": NearDuplicate,
    "removed": Contaminated,
    "reserved": Reserved,
    "asked": Asked,
    "links": Link,
}


@dataclass(frozen=True)
class UnitResult:
    """A finished unit: its folder, its manifest and its tables."""

    unit: Unit
    folder: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """Counts, digests, seconds and library versions."""
        manifest: dict[str, Any] = read_json(self.folder / "manifest.json")
        return manifest

    def rows(self, table: str = "data") -> Iterator[Any]:
        """The rows of one of its tables (`data`, `sft`, `dpo`, `prompts`, `dropped`, ...)."""
        row_type = ROW_TYPES.get(table) or ROWWISE.get(self.unit.kind)
        if self.unit.kind == "verdicts":
            row_type = Score
        if table == "dpo":
            row_type = dpo_row_type(self.folder)
        elif table == "held_out":
            row_type = TRAINED_ON[self.unit.settings["train"].loss.consumes]
        if row_type is None:
            raise FusechatError(f"{self.unit.name} has no table '{table}'. Look into {self.folder}")
        return read_table(self.folder / table, row_type)


@dataclass(frozen=True)
class RunResult:
    """What a run left: its plan, its folder, and its finished units by name."""

    plan: Plan
    folder: Path
    ran: tuple[str, ...]
    """Names of the units that this call worked on; the others were done before."""

    def __getitem__(self, name: str) -> UnitResult:
        unit = self.plan[name]
        folder = self.plan.path(unit)
        if not (folder / "manifest.json").exists():
            raise FusechatError(f"{name} is not done. Run the recipe, or --only {name}.")
        return UnitResult(unit, folder)

    @property
    def report(self) -> Path:
        """The report page."""
        return self.folder / "report.html"

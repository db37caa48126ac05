"""What a training unit left to show: its curves, its looks at held-out rows, its warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusechat import files
from fusechat.report.judged import Unit


@dataclass(frozen=True)
class TrainingRun:
    """One finished training unit."""

    unit: str
    lines: Sequence[Mapping[str, Any]] = ()
    """Rows of its metrics.jsonl."""
    looks: Sequence[Mapping[str, Any]] = ()
    """Rows of its watch.jsonl; none where nothing was held out."""
    warnings: Sequence[Mapping[str, Any]] = ()
    """What drifted, as its manifest says: `kind`, `step`, `last`, `text`, `advice`."""


def training_runs(units: Iterable[Unit]) -> tuple[TrainingRun, ...]:
    """The training units that are done, in the plan's order."""
    return tuple(
        TrainingRun(
            unit.name,
            list(files.read_jsonl(unit.folder / "metrics.jsonl")),
            list(files.read_jsonl(unit.folder / "watch.jsonl")),
            unit.manifest.get("counts", {}).get("warnings", []),
        )
        for unit in units
        if unit.manifest is not None and unit.name.startswith("train/")
    )

"""What a stage gets to work with: one unit's folder, its inputs, and how to report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat.executors.adopted import Adopted
from fusechat.executors.rows import RowExecutor, StopRule
from fusechat.parts import Where
from fusechat.progress import Progress


@dataclass(frozen=True)
class UnitContext:
    """Everything that one unit's work may read. It writes only below `folder`.

    A stage is a function `(context) -> counts`: it writes its tables and returns the counts
    for the manifest, which the runner writes last.
    """

    name: str
    """`stage/name`, as on the command line."""
    folder: Path
    inputs: Mapping[str, Path]
    """Unit name (`prompts`, `sample/gemma`, `train/sft`) -> its folder."""
    settings: Any
    """The recipe's entry for this unit, validated."""
    seed: int
    where: Where
    progress: Progress
    log: logging.Logger
    executor: RowExecutor | None = None
    """Runs row-wise parts; there for the stages that need one."""
    adoptable: Callable[[str], Adopted] | None = None
    """Part digest -> look-up of rows that the same part already made anywhere in the workspace."""
    stop: StopRule | None = None
    """Told of finished rows; says why sampling ends here, or None. What is there is kept."""
    retry_errors: bool = False
    """Whether rows kept with an error are tried again."""
    max_error_share: float = 0.01
    """Above this share of failed rows the unit stops."""

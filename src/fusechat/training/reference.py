"""Reference log-probabilities: made once, by the policy's own path, before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.errors import TrainingError
from fusechat.records import Record
from fusechat.tables import read_table, write_table
from fusechat.training.batches import epoch_order
from fusechat.training.engine import Engine
from fusechat.training.examples import Example
from fusechat.training.models import publish

if TYPE_CHECKING:
    import torch


class ReferenceLogps(Record):
    """What the frozen reference gives one row, in nats, summed over the response tokens."""

    prompt_id: str
    logps: tuple[float, ...]
    """One for each side of the row: the response, or the chosen and the rejected one."""


def compute_reference(
    engine: Engine, examples: Sequence[Example], seed: int, batch: int
) -> torch.Tensor:
    """Nats, float64 `[rows, sides]`, by the very batches (of `batch` rows) of the first epoch.

    So the policy's first step meets its reference bit for bit, and its loss is ln 2.
    """
    import torch

    order = epoch_order(len(examples), seed, 0)
    steps = [order[start : start + batch] for start in range(0, len(order), batch)]
    parts = [engine.logps([examples[row] for row in step]) for step in steps]
    made = torch.cat(parts)
    out = torch.empty_like(made)
    out[order] = made
    return out


def write_reference(folder: Path, examples: Sequence[Example], logps: torch.Tensor) -> None:
    """Write `logps` (nats, `[rows, sides]`) as the table `folder`, wholly or not at all."""
    rows = [
        ReferenceLogps(prompt_id=example.prompt_id, logps=tuple(values))
        for example, values in zip(examples, logps.tolist(), strict=True)
    ]
    publish(folder, lambda place: _write(place, rows), "train.reference")


def _write(folder: Path, rows: Sequence[ReferenceLogps]) -> None:
    write_table(folder, rows, ReferenceLogps)


def read_reference(
    folder: Path, examples: Sequence[Example], device: torch.device
) -> torch.Tensor | None:
    """The table's values, nats, float64 `[rows, sides]`; None where there is no table.

    Raises `TrainingError` if it was made for other rows.
    """
    import torch

    if not folder.is_dir():
        return None
    rows = list(read_table(folder, ReferenceLogps))
    if [row.prompt_id for row in rows] != [example.prompt_id for example in examples]:
        raise TrainingError(
            f"the reference log-probabilities in {folder} are of other rows. Remove that folder."
        )
    return torch.tensor([row.logps for row in rows], dtype=torch.float64, device=device)

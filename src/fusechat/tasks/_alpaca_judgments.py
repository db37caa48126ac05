"""Judgments as AlpacaEval stores them: one row a pair of outputs, with the judge's preference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fusechat.columns import read_rows
from fusechat.errors import Fault, RecipeError

LISTED = 20
"""Faults that are printed; the rest are counted."""
_TEXTS = ("instruction", "output_1", "output_2")


@dataclass(frozen=True)
class Judged:
    """One judgment: the baseline's output is `output_1`, the model's `output_2`."""

    place: str
    instruction: str
    output_1: str
    output_2: str
    preference: float
    """For the model's output, in [0, 1]; nan where the judge gave none."""
    model: str
    baseline: str
    judge: str


def read_judgments(path: Path) -> list[Judged]:
    """The rows of a file of AlpacaEval's annotations; raises `RecipeError` with all faults."""
    if not path.is_file():
        raise RecipeError([Fault(str(path), "", "there is no such file. Give AlpacaEval's JSON.")])
    rows, faults = [], []
    for place, row in read_rows(path):
        try:
            rows.append(_judged(place, row))
        except ValueError as error:
            faults.append(Fault(str(path.parent / place), "", str(error)))
    raise_all(path, faults)
    return rows


def _judged(place: str, row: Any) -> Judged:
    if isinstance(row, ValueError):
        raise ValueError(f"not JSON: {row}.")
    if not isinstance(row, Mapping):
        raise ValueError(f"no object, but {type(row).__name__}. Give AlpacaEval's annotations.")
    if lacking := [name for name in _TEXTS if not isinstance(row.get(name), str)]:
        raise ValueError(f"it has no text in {', '.join(lacking)}.")
    if "preference" not in row:
        raise ValueError("it has no 'preference'. Write null where the judge gave none.")
    names = ("generator_2", "generator_1", "annotator")
    model, baseline, judge = (str(row.get(name) or "") for name in names)
    return Judged(
        place, row["instruction"], row["output_1"], row["output_2"],
        _preference(row["preference"]), model, baseline, judge,
    )  # fmt: skip


def _preference(value: Any) -> float:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not (
        value == 0 or 1 <= value <= 2
    ):  # fmt: skip
        raise ValueError(
            f"its preference is {value!r}. It is from 1 (output_1 is better) to 2 (output_2), 1.5 "
            "or 0 for a draw, and null where the judge gave none."
        )
    return 0.5 if value == 0 else float(value) - 1.0


def raise_all(path: Path, faults: Iterable[Fault]) -> None:
    """Raise a `RecipeError` with all faults of a file, 20 of them in words; nothing where none."""
    found = list(faults)
    if more := found[LISTED:]:
        raise RecipeError([*found[:LISTED], Fault(str(path), "", f"and {len(more)} more of such.")])
    if found:
        raise RecipeError(found)


def preferences(path: Path) -> dict[tuple[str, str], float]:
    """Instruction and output (without white space around) -> how far it is preferred over the other
    one, in [0, 1]; only where the judge said so. Raises `RecipeError` as `read_judgments`."""
    return _preferences(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=4)
def _preferences(path: Path, written: int) -> dict[tuple[str, str], float]:
    rows = [row for row in read_judgments(path) if not math.isnan(row.preference)]
    return {(row.instruction, row.output_2.strip()): row.preference for row in rows}

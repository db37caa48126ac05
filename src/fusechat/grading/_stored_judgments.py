"""Stored judgments of a judge model: which items they are about, which are missing or doubled."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fusechat.errors import Fault, RecipeError

Row = TypeVar("Row")
NAMED = 20
"""Items that are named; the others are counted."""


@dataclass(frozen=True)
class Stored(Generic[Row]):
    """The judgments of one model by one judge, one for each item."""

    rows: Mapping[Hashable, Row]
    """Item (or item and turn) -> its judgment; of several, the first."""
    doubled: Sequence[Hashable]
    """Items with more than one judgment."""
    expected: int
    """Items of the whole benchmark."""
    missing: Sequence[Hashable]
    """Items of the benchmark without one, where its items are known."""
    unknown: Sequence[Hashable]
    """Items that the benchmark does not have; they are not in `rows`."""

    @classmethod
    def of(
        cls, rows: Iterable[tuple[Hashable, Row]], items: Sequence[Hashable], size: int
    ) -> Stored[Row]:
        """Judgments by item. `items`: all that there are, empty where nobody knows them; then
        `size` is their number."""
        found: dict[Hashable, Row] = {}
        doubled: dict[Hashable, None] = {}
        for item, row in rows:
            if item in found:
                doubled[item] = None
            found.setdefault(item, row)
        known = set(items)
        unknown = [item for item in found if known and item not in known]
        return cls(
            {item: row for item, row in found.items() if not known or item in known},
            [*doubled], len(items) or size, [item for item in items if item not in found], unknown,
        )  # fmt: skip

    def told(self, unparsable: int) -> dict[str, Any]:
        """`status` (`ok`, or `partial` where some are missing or unparsable), `n_expected`,
        `unparsable`, and `missing`, `doubled`, `unknown`: how many, and the first by name."""
        kinds = {"missing": self.missing, "doubled": self.doubled, "unknown": self.unknown}
        counts = {kind: len(items) for kind, items in kinds.items()}
        counts["missing"] = max(0, self.expected - len(self.rows))
        whole = not unparsable and not counts["missing"]
        status = {"status": "ok" if whole else "partial", "n_expected": self.expected}
        return (
            status
            | {"unparsable": unparsable}
            | {
                kind: {"n": counts[kind], "items": [_name(item) for item in items[:NAMED]]}
                for kind, items in kinds.items()
            }
        )


def one_or_all(path: Path, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The result of the one model of a file, or `{"models": [...]}` of several."""
    if not found:
        raise RecipeError([Fault(str(path), "", "it holds no judgment. Give one object a line.")])
    return found[0] if len(found) == 1 else {"models": list(found)}


def in_both(
    path: Path, ours: Mapping[Hashable, float], published: Mapping[Hashable, float]
) -> list[tuple[float, float]]:
    """Two judges' numbers of the same answers; raises `RecipeError` where there are none."""
    both = [(value, published[item]) for item, value in ours.items() if item in published]
    if not both:
        message = "none of its answers is judged in the other file: there is nothing to compare."
        raise RecipeError([Fault(str(path), "", message)])
    return both


def _name(item: Hashable) -> str:
    return "#".join(map(str, item)) if isinstance(item, tuple) else str(item)

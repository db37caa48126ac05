"""The picks of a build's strategies as columns: how they wait on disk, and how they are joined."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusechat.groups import Array, Groups, Selection


@dataclass(frozen=True)
class Picks:
    """All picks for one table, in prompt-table order; `[picks]` each."""

    prompt: Array
    """Position in the prompt table, int32."""
    source: Array
    """Source of the response to imitate or of the chosen one (of a triple the sources'), position
    in `sources`, int16."""
    place: Array
    """`[picks, 2]`, int32: shard of that source, and row in it, of that response."""
    other_source: Array
    """The same of the rejected response; -1 where there is none."""
    other_place: Array
    second_source: Array
    """The same of a triple's better response of the target itself."""
    second_place: Array
    score: Array
    """float64, nan where there is none; so are the next three."""
    other_score: Array
    second_score: Array
    margin: Array
    weight: Array
    """float64"""
    why: Array
    """Position in `reasons`, int16."""
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompt)

    def take(self, at: Array | slice) -> Picks:
        """Those at some positions."""
        count = len(self.prompt[at])
        taken = {name: _taken(getattr(self, name), at, count) for name in _COLUMNS}
        return Picks(**taken, reasons=self.reasons)


_COLUMNS = tuple(name for name in Picks.__dataclass_fields__ if name != "reasons")


def _taken(values: Array, at: Array | slice, count: int) -> Array:
    """Those at `count` positions; one value that stands for all stays one."""
    if count and not values.strides[0]:
        return np.broadcast_to(values[:1], (count, *values.shape[1:]))
    return np.asarray(values[at])


class Waiting:
    """Picks that wait in a file without a name: a kill leaves nothing of it behind."""

    def __init__(self, folder: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by the finalizer
        self._parts = 0
        self.close = weakref.finalize(self, self._file.close)

    def add(self, picks: Picks) -> None:
        """Append some, at least one."""
        for name in _COLUMNS:
            values = getattr(picks, name)
            kept = values if values.strides[0] else values[:1]
            np.save(self._file, kept, allow_pickle=False)
        self._parts += 1

    def __iter__(self) -> Iterator[Picks]:
        """As they were added."""
        self._file.seek(0)
        for _ in range(self._parts):
            columns = {name: np.load(self._file, allow_pickle=False) for name in _COLUMNS}
            count = len(columns["prompt"])
            for name, values in columns.items():
                if len(values) < count:
                    columns[name] = np.broadcast_to(values, (count, *values.shape[1:]))
            yield Picks(**columns, reasons=())


def part_of(groups: Groups, at: Array, said: Selection, source_of: Array, why: Array) -> Picks:
    """The picks of a selection.

    `at`: position in the prompt table of each prompt of `groups`, int32. `source_of`: number of
    each of its sources among all, int16. `why`: number of each pick's reason among all, int16.
    """
    columns = groups.columns

    def side(rows: Array) -> tuple[Array, Array]:
        """Source and place of one side; one value that stands for all where it has none."""
        none = rows < 0
        if none.all():
            nowhere = np.broadcast_to(np.full((1, 2), -1, np.int32), (len(rows), 2))
            return nowhere[:, 0].astype(np.int16), nowhere
        source = np.where(none, -1, source_of[columns["source"][rows]]).astype(np.int16)
        return source, np.stack([columns["file"][rows], columns["row"][rows]], 1)

    source, place = side(said.row)
    other_source, other_place = side(said.other)
    second_source, second_place = side(said.seconds)
    return Picks(
        prompt=at[said.prompt],
        source=source,
        place=place,
        other_source=_one(other_source),
        other_place=other_place,
        second_source=_one(second_source),
        second_place=second_place,
        score=said.score,
        other_score=_one(said.other_score),
        second_score=_one(said.second_scores),
        margin=_one(said.margin),
        weight=_one(said.weights),
        why=why,
        reasons=(),
    )


def _one(values: Array) -> Array:
    """The same; where all are alike one value that stands for all, so that it needs no room."""
    alike = values[:1]
    same = np.array_equal(values, np.broadcast_to(alike, values.shape), equal_nan=True)
    return np.broadcast_to(alike, values.shape) if same else values


def joined(parts: list[Picks], reasons: tuple[str, ...]) -> Picks:
    """In prompt-table order. `parts` are taken apart, so that no second copy of all is needed."""
    columns = {name: [getattr(part, name) for part in parts or [_NONE]] for name in _COLUMNS}
    parts.clear()
    order = np.argsort(np.concatenate(columns["prompt"]), kind="stable").astype(np.int32)
    joined = {name: _in_order(columns.pop(name), order) for name in [*columns]}
    return Picks(**joined, reasons=reasons)


def _in_order(parts: Sequence[Array], order: Array) -> Array:
    firsts = np.concatenate([part[:1] for part in parts])
    alike = np.array_equal(firsts, np.broadcast_to(firsts[:1], firsts.shape), equal_nan=True)
    if alike and all(part.strides[0] == 0 for part in parts):
        return _taken(parts[0], order, len(order))
    return np.asarray(np.concatenate(parts)[order])


_NO_PLACE = np.zeros((0, 2), np.int32)
_NO_SCORE = np.zeros(0)
_NO_CODE = np.zeros(0, np.int16)
_NONE = Picks(
    np.zeros(0, np.int32), _NO_CODE, _NO_PLACE, _NO_CODE, _NO_PLACE, _NO_CODE, _NO_PLACE,
    _NO_SCORE, _NO_SCORE, _NO_SCORE, _NO_SCORE, _NO_SCORE, _NO_CODE, (),
)  # fmt: skip

"""Reading tables side by side that are in one common order, a run of rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusechat.groups import Array

STEP = 4096
"""Rows that are looked up at a time."""
BATCH = 16_384
"""Rows of small shards that are put together before they are looked up."""


def batched(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about `BATCH` rows or more."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= BATCH:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


@dataclass(frozen=True)
class Found:
    """Some rows of a table, and where each belongs."""

    table: pa.Table
    at: Array
    """Position of each row's key among the keys that were asked for, int64."""

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def among(
        cls, tables: Iterable[pa.Table], schema: pa.Schema, key: str, wanted: pa.Array
    ) -> Found:
        """All rows whose `key` is wanted, wherever they stand."""
        parts, places = [schema.empty_table()], [np.zeros(0, np.int64)]
        for table in tables:
            at = pc.index_in(table[key], value_set=wanted)
            parts.append(table.filter(pc.is_valid(at)).cast(schema))
            places.append(at.drop_null().to_numpy().astype(np.int64))
        return cls(pa.concat_tables(parts), np.concatenate(places))


class Cursor:
    """A place in a stream of tables that only moves forward."""

    def __init__(
        self, tables: Iterator[pa.Table], schema: pa.Schema, key: str, skip: int = 0
    ) -> None:
        self._tables, self._schema, self._key, self._skip = tables, schema, key, skip
        self._rest: pa.Table | None = None

    def leading(self, wanted: pa.Array) -> Found:
        """The next rows as long as their key is wanted."""
        parts, places = [self._schema.empty_table()], [np.zeros(0, np.int64)]
        begin = 0
        while (rest := self._next()) is not None:
            keys = rest[self._key]
            at = _same(keys, wanted[begin:])
            if at is not None:
                at, begin = at + begin, begin + len(at)
                whole = True
            elif pc.index(wanted, keys[0]).as_py() < 0:
                break
            else:
                keys = keys.slice(0, STEP)
                at = _places(keys, wanted)
                whole = len(at) == len(keys)
            parts.append(rest.slice(0, len(at)).cast(self._schema))
            places.append(at)
            self._rest = rest.slice(len(at))
            if not whole:
                break
        return Found(pa.concat_tables(parts), np.concatenate(places))

    @property
    def done(self) -> bool:
        """Whether no row is left."""
        return self._next() is None

    def _next(self) -> pa.Table | None:
        while self._rest is None or not len(self._rest):
            table = next(self._tables, None)
            if table is None:
                return None
            self._rest = table.slice(self._skip)
            self._skip = 0
        return self._rest


def starts_of(
    found: Iterable[tuple[int, pa.ChunkedArray]], known: Iterator[tuple[int, pa.ChunkedArray]]
) -> Mapping[int, tuple[int, int]] | None:
    """Where the keys of each owner begin in a table, if they are in the order of `known`.

    `found`: (file, its keys). `known`: (owner, some of its keys), the order that is looked
    for; keys may be left out. Returns owner -> (file, row); None where a key is unknown or
    out of order.
    """
    windows = _windows(known)
    owner, window = next(windows, (-1, None))
    starts: dict[int, tuple[int, int]] = {}
    last = -1
    for file, keys in found:
        row = 0
        while row < len(keys):
            if window is None:
                return None
            step = keys.slice(row, STEP)
            at = _places(step, window)
            if len(at):
                if at[0] <= last or (np.diff(at) < 1).any():
                    return None
                starts.setdefault(owner, (file, row))
                row, last = row + len(at), int(at[-1])
            if len(at) < len(step):
                owner, window = next(windows, (-1, None))
                last = -1
    return starts


def _windows(
    known: Iterator[tuple[int, pa.ChunkedArray]],
) -> Iterator[tuple[int, pa.Array]]:
    for owner, keys in known:
        for start in range(0, len(keys), STEP):
            yield owner, keys.slice(start, STEP).combine_chunks()


def _same(keys: pa.ChunkedArray, wanted: pa.Array) -> Array | None:
    """Positions of the keys, where they are the first of those that are wanted."""
    count = min(len(keys), len(wanted))
    if not count or not keys.slice(0, count).equals(pa.chunked_array([wanted[:count]])):
        return None
    return np.arange(count)


def _places(keys: pa.ChunkedArray, wanted: pa.Array) -> Array:
    """Positions of the leading keys among those that are wanted, up to the first that is not."""
    one = keys.combine_chunks()
    new = np.ones(len(one), np.bool_)
    if len(one) > 1:  # of equal keys that follow each other only the first is looked up
        new[1:] = pc.not_equal(one[1:], one[:-1]).to_numpy(zero_copy_only=False)
    found = pc.fill_null(pc.index_in(one.filter(pa.array(new)), value_set=wanted), -1)
    at: Array = found.to_numpy().astype(np.int64)[np.cumsum(new) - 1]
    missing = np.flatnonzero(at < 0)
    return at[: missing[0]] if len(missing) else at

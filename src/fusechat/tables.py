"""Rows on disk: atomic files, Parquet shards, tables.

A table is a folder of Parquet shards of one row type, `00000.parquet` upwards, in row
order. A file is either whole or not there: it is written beside its place, fsynced, renamed,
and its folder fsynced. The same rows give the same bytes under the same pyarrow.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel

from fusechat.digests import digest, digest_path
from fusechat.errors import DamagedError
from fusechat.files import write_atomic
from fusechat.records import Record

SHARD_ROWS = 1000
"""Rows of a shard. It belongs to the table and never follows the number of workers."""

LOOKED_AT = 100
"""Rows of a column whose values say whether a dictionary of them pays."""

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class TableInfo:
    """Size and content digest of a table."""

    rows: int
    digest: str


@cache
def arrow_schema(row_type: type[BaseModel]) -> pa.Schema:
    """The Arrow schema of a row type, derived from its annotations."""
    hints = typing.get_type_hints(row_type)
    return pa.schema([_arrow_field(name, hints[name]) for name in row_type.model_fields])


def _arrow_field(name: str, hint: Any) -> pa.Field:
    arguments = typing.get_args(hint)
    nullable = type(None) in arguments and isinstance(hint, types.UnionType)
    if nullable:
        (hint,) = (a for a in arguments if a is not type(None))
    return pa.field(name, _arrow_type(hint), nullable=nullable)


def _arrow_type(hint: Any) -> pa.DataType:
    simple = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if hint in simple:
        return simple[hint]
    if typing.get_origin(hint) is Literal:
        return pa.string()
    if typing.get_origin(hint) is tuple:
        return pa.list_(_arrow_type(typing.get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return pa.struct(list(arrow_schema(hint)))
    raise TypeError(f"no Arrow type for {hint!r}; use str, int, float, bool, tuples or records")


def write_shard(path: Path, rows: Sequence[Record], row_type: type[Record]) -> None:
    """Write one shard atomically."""
    table = pa.Table.from_pylist(
        [_encodable(row.model_dump()) for row in rows], schema=arrow_schema(row_type)
    )
    _write_arrow(path, table)


def _write_arrow(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    words = [name for name in table.column_names if _repeats(table[name])]
    pq.write_table(table, sink, compression="zstd", compression_level=3, use_dictionary=words)
    write_atomic(path, memoryview(sink.getvalue()))


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether values come again and again; looking up ids and texts takes long, for nothing."""
    first = column.slice(0, LOOKED_AT)
    if pa.types.is_nested(column.type):
        return False
    return bool(pc.count_distinct(first, mode="all").as_py() <= len(first) // 2)


def _encodable(value: Any) -> Any:
    # A lone surrogate (a cut byte-level token) is no Unicode text; Parquet holds only such.
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if not value.isascii() else value
    if isinstance(value, dict):
        return {key: _encodable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(inner) for inner in value]
    return value


def write_table(
    folder: Path, rows: Iterable[Record], row_type: type[Record], shard_rows: int = SHARD_ROWS
) -> TableInfo:
    """Write a whole table; an empty one still has one (empty) shard, so its columns are known.

    Shards of an earlier, interrupted attempt are removed first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in shards(folder):
        old.unlink()
    remaining = iter(rows)
    for number in range(10**9):
        chunk = list(islice(remaining, shard_rows))
        if not chunk and number:
            break
        write_shard(shard_path(folder, number), chunk, row_type)
        if len(chunk) < shard_rows:
            break
    return table_info(folder)


class TableWriter:
    """Writes a table from Arrow tables of any lengths; shards as by `write_table`.

    `schema`: of every shard; the columns of what is added are taken in its order and cast to
    it. Shards of an earlier, interrupted attempt are removed first.
    """

    def __init__(self, folder: Path, schema: pa.Schema, shard_rows: int = SHARD_ROWS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in shards(folder):
            old.unlink()
        self._folder, self._schema, self._rows = folder, schema, shard_rows
        self._waiting = schema.empty_table()
        self._number = 0

    def add(self, table: pa.Table) -> None:
        """Append rows; full shards are written."""
        waiting = pa.concat_tables(
            [self._waiting, table.select(self._schema.names).cast(self._schema)]
        )
        whole = len(waiting) - len(waiting) % self._rows
        for start in range(0, whole, self._rows):
            self._write(waiting.slice(start, self._rows))
        # A copy where shards were written, so that theirs are not kept for the rows left over.
        left = waiting.slice(whole)
        self._waiting = left.take(pa.array(range(len(left)), pa.int64())) if whole else left

    def close(self) -> TableInfo:
        """Write the rest; an empty table still has one (empty) shard."""
        if len(self._waiting) or not self._number:
            self._write(self._waiting)
        return table_info(self._folder)

    def _write(self, table: pa.Table) -> None:
        _write_arrow(shard_path(self._folder, self._number), table.combine_chunks())
        self._number += 1


def write_tables(
    folder: Path, tables: Iterable[pa.Table], schema: pa.Schema, shard_rows: int = SHARD_ROWS
) -> TableInfo:
    """Write a whole table given as Arrow tables; see `TableWriter`."""
    writer = TableWriter(folder, schema, shard_rows)
    for table in tables:
        writer.add(table)
    return writer.close()


def shard_path(folder: Path, number: int) -> Path:
    """Where shard `number` of a table is."""
    return folder / f"{number:05d}.parquet"


def shards(folder: Path) -> list[Path]:
    """The finished shards of a table, in order."""
    return sorted(folder.glob("[0-9]*.parquet"), key=lambda path: (len(path.name), path.name))


def read_table(folder: Path, row_type: type[R], shard: str | None = None) -> Iterator[R]:
    """The rows of a table, in order, shard by shard; or of the one shard of that file name."""
    paths = [folder / shard] if shard else shards(folder)
    for row in _dicts(paths, None):
        yield row_type.model_validate(row)


def read_dicts(folder: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a table as plain dictionaries, only `columns` where given."""
    yield from _dicts(shards(folder), columns)


def _dicts(paths: Sequence[Path], columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    for path in paths:
        try:
            for batch in pq.ParquetFile(path).iter_batches(columns=columns):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DamagedError(path, str(error).rstrip(".")) from error


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of one shard, in one thread; raises `DamagedError` where it cannot be read."""
    try:
        # Opened so, a small file costs half of what its path does.
        with pa.OSFile(str(path)) as source, pq.ParquetFile(source, pre_buffer=False) as file:
            return file.read(columns=list(columns), use_threads=False).select(list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(path, str(error).rstrip(".")) from error


def count_rows(folder: Path) -> int:
    """Number of rows, from the shards' footers."""
    return sum(rows_in(path) for path in shards(folder))


def rows_in(path: Path) -> int:
    """Number of rows of one shard, from its footer."""
    try:
        return int(pq.ParquetFile(path).metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(path, str(error).rstrip(".")) from error


def table_info(folder: Path) -> TableInfo:
    """Rows and content digest of a finished table."""
    names = [[path.name, digest_path(path)] for path in shards(folder)]
    return TableInfo(rows=count_rows(folder), digest=digest(names))

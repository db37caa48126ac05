"""Rows that can be adopted, looked up on disk: where each `made_from` stands, not the row.

A temporary SQLite file holds file and place of every row that a part made anywhere in the
workspace; the rows themselves are read from their shards when they are asked for.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from fusechat.errors import DamagedError
from fusechat.records import Record, Response
from fusechat.tables import read_columns, shards

ASKED = 500
"""Names in one query; SQLite takes at least 999."""
Place = tuple[str, int, int]
"""`made_from`, file, row of a shard or offset in a journal."""


class Adopted:
    """A look-up of rows by `made_from`. Of two rows of one name the one added first counts."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where the temporary file may be; it has no name once this returns."""
        self._folder = folder
        self._files: list[tuple[Path, type[Record]]] = []
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> Adopted:
        return self

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return bool(self._files)

    def __exit__(self, *error: object) -> None:
        if self._database is not None:
            self._database.close()

    def add(self, unit: Path, row_type: type[Record]) -> None:
        """Add all rows of a unit that did not fail, finished or in journals."""
        for path in shards(unit / "data"):
            self._add(path, row_type, _in_shard(path, row_type))
        for path in sorted((unit / "journal").glob("*.jsonl")):
            self._add(path, row_type, _in_journal(path, row_type))

    def find(self, names: Collection[str]) -> dict[str, Record]:
        """The rows of these names that are known, by name."""
        by_file: dict[int, dict[str, int]] = defaultdict(dict)
        for name, file, place in self._places(names, "name, file, place"):
            by_file[file][name] = place
        found: dict[str, Record] = {}
        for file, places in sorted(by_file.items()):
            path, row_type = self._files[file]
            read = _read_shard if path.suffix == ".parquet" else _read_journal
            for row in read(path, sorted(places.values())):
                with suppress(ValidationError):
                    record = row_type.model_validate(row)
                    found[record.made_from] = record  # type: ignore[attr-defined]
        return found

    def count(self, names: Sequence[str]) -> int:
        """How many of these names are known; a name given twice counts twice."""
        if self._database is None:
            return 0
        known = {name for (name,) in self._places(set(names), "name")}
        return sum(name in known for name in names)

    def _places(self, names: Collection[str], columns: str) -> Iterator[tuple[Any, ...]]:
        if self._database is None:
            return
        asked = sorted(names)
        for start in range(0, len(asked), ASKED):
            some = asked[start : start + ASKED]
            marks = ",".join("?" * len(some))
            query = f"SELECT {columns} FROM made WHERE name IN ({marks})"
            yield from self._database.execute(query, some)

    def _add(self, path: Path, row_type: type[Record], rows: Iterator[tuple[str, int]]) -> None:
        number = len(self._files)
        self._files.append((path, row_type))
        places = ((name, number, place) for name, place in rows)
        self._open().executemany("INSERT OR IGNORE INTO made VALUES (?, ?, ?)", places)

    def _open(self) -> sqlite3.Connection:
        """The database. Its file loses its name at once, so that a kill leaves nothing behind."""
        if self._database is None:
            path = self._folder / f".adopted.{os.getpid()}.sqlite"
            path.unlink(missing_ok=True)
            # nolock: nobody else has it, and not every shared file system has locks.
            uri = f"{path.absolute().as_uri()}?nolock=1"
            made = sqlite3.connect(uri, uri=True, isolation_level=None)
            made.execute("PRAGMA journal_mode=OFF")
            made.execute("PRAGMA synchronous=OFF")
            made.execute(
                "CREATE TABLE made (name TEXT PRIMARY KEY, file INTEGER, place INTEGER) "
                "WITHOUT ROWID"
            )
            path.unlink(missing_ok=True)
            made.execute("BEGIN")
            self._database = made
        return self._database


def _ending(row_type: type[Record]) -> str:
    return "finish" if row_type is Response else "status"


def _in_shard(path: Path, row_type: type[Record]) -> Iterator[tuple[str, int]]:
    table = read_columns(path, ["made_from", _ending(row_type)])
    pairs = zip(*(column.to_pylist() for column in table.columns), strict=True)
    for place, (name, ending) in enumerate(pairs):
        if ending != "error":
            yield name, place


def _in_journal(path: Path, row_type: type[Record]) -> Iterator[tuple[str, int]]:
    offset = 0
    with path.open("rb") as handle:
        for line in handle:
            with suppress(ValueError, KeyError, TypeError):
                row = json.loads(line.decode("utf-8", "surrogatepass"))
                if row[_ending(row_type)] != "error" and isinstance(row["made_from"], str):
                    yield row["made_from"], offset
            offset += len(line)


def _read_shard(path: Path, rows: list[int]) -> Iterator[dict[str, Any]]:
    try:
        with pa.OSFile(str(path)) as source, pq.ParquetFile(source, pre_buffer=False) as file:
            table = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(path, str(error).rstrip(".")) from error
    yield from table.take(rows).to_pylist()


def _read_journal(path: Path, offsets: list[int]) -> Iterator[dict[str, Any]]:
    with path.open("rb") as handle:
        for offset in offsets:
            handle.seek(offset)
            yield json.loads(handle.readline().decode("utf-8", "surrogatepass"))

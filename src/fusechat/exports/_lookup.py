"""What is said of prompts and responses elsewhere, kept on disk while a pool is written."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

_AT_ONCE = 5000
T = TypeVar("T")


def batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """The rows in lists of `size`, the last one perhaps shorter."""
    remaining = iter(rows)
    while some := list(islice(remaining, size)):
        yield some


class Lookup:
    """Kind and key -> what was said, in the order in which it was said; in one temporary file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._db = sqlite3.connect(path)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-32000"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE said (kind TEXT, key TEXT, value TEXT)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._path.unlink(missing_ok=True)

    def add(self, kind: str, said: Iterable[tuple[str, Any]]) -> None:
        """Keep (key, value) pairs; values are JSON."""
        for some in batched(said, _AT_ONCE):
            rows = [(kind, key, json.dumps(value, ensure_ascii=False)) for key, value in some]
            self._db.executemany("INSERT INTO said VALUES (?, ?, ?)", rows)

    def ready(self) -> None:
        """All is said; it can be asked for now."""
        self._db.execute("CREATE INDEX by_key ON said (kind, key)")

    def of(self, kind: str, keys: Sequence[str]) -> defaultdict[str, list[Any]]:
        """What was said of some keys."""
        out: defaultdict[str, list[Any]] = defaultdict(list)
        for some in batched(dict.fromkeys(keys), 500):
            marks = ",".join("?" * len(some))
            query = f"SELECT key, value FROM said WHERE kind = ? AND key IN ({marks})"
            for key, value in self._rows(f"{query} ORDER BY rowid", (kind, *some)):
                out[key].append(json.loads(value))
        return out

    def _rows(self, query: str, values: Sequence[str]) -> Iterator[tuple[str, str]]:
        yield from self._db.execute(query, values)

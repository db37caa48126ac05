"""How the rows of a job are cut into shards: at prompt boundaries, lazily, the same every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from fusechat.executors.contract import RowIn
from fusechat.records import Candidate, LogpRequest, Request

STREAM_CHUNK = 16
"""Rows handed to a worker at a time where a part streams, more where a prompt has more."""
MOST_ROWS = 64
"""A prompt's rows are handed out together up to so many."""


@dataclass(frozen=True)
class Cut:
    """One shard of the plan: its rows, still to be made."""

    number: int
    size: int
    groups: tuple[Any, ...]

    def rows(self) -> list[Any]:
        """Make the rows."""
        return [row for group in self.groups for row in group]


def cuts(rows: Iterable[Any], shard_rows: int) -> Iterator[Cut]:
    """The shards of a job, one after the other; a job without rows has one, without rows.

    `rows`: see `RowJob.rows`. A shard closes at the first prompt boundary at or after
    `shard_rows` rows, so rows of one prompt never cross shards.
    """
    waiting: list[Any] = []
    number = size = 0
    for group in by_prompt(rows):
        waiting.append(group)
        size += len(group)
        if size >= shard_rows:
            yield Cut(number, size, tuple(waiting))
            waiting, size, number = [], 0, number + 1
    if waiting or not number:
        yield Cut(number, size, tuple(waiting))


def by_prompt(rows: Iterable[Any]) -> Iterator[Any]:
    """Single rows gathered by prompt; what is gathered already passes as it is."""
    for key, group in groupby(rows, _prompt_of):
        if key is None:
            yield from (one for one in group if len(one))
        else:
            yield list(group)


def _prompt_of(row: Any) -> str | None:
    return row.prompt.id if isinstance(row, (Request, Candidate, LogpRequest)) else None


def chunks(rows: Iterable[RowIn]) -> Iterator[list[RowIn]]:
    """What a streaming part is handed at a time: whole prompts, about `STREAM_CHUNK` rows."""
    waiting: list[RowIn] = []
    for _, found in groupby(rows, _prompt_of):
        group = list(found)
        if waiting and len(waiting) + len(group) > MOST_ROWS:
            yield waiting
            waiting = []
        while len(group) > MOST_ROWS:
            yield group[:MOST_ROWS]
            group = group[MOST_ROWS:]
        waiting += group
        if len(waiting) >= STREAM_CHUNK:
            yield waiting
            waiting = []
    if waiting:
        yield waiting

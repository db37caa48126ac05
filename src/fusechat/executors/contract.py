"""What a row-wise job is, and what an executor must do with it.

The protocol, for whoever writes another executor:

- `map(part, batches, where)` is a generator. It pulls from the iterator `batches` only as it
  has room for work (each pull may open a shard), and computes every row of every batch that it
  pulled. `batches` ends early where the job is stopped; what was pulled is then still due.
- It yields groups of finished rows, in any order, as soon as they are there: a group is made
  durable as a whole before the next is asked for, so that what was not yielded is lost with a
  kill. The caller writes; an executor never touches the unit's folder.
- A row carries the `made_from` of its input. A row that was answered already may be yielded
  again; it is passed over. A row that was never asked is an error.
- A batch of a part with `cut()` is computed by one worker in one call, and yielded whole.
- Workers that die: what they held is computed again by others, raising `Batch.attempt`;
  `Batch.retries` says how to divide it. A row that cannot be computed is yielded as
  `failure(row, reason)`, never left out.
- Closing the generator (an early end) ends all work that is under way.
- `partial = True`, an attribute of its class: this executor may leave rows unanswered (a provider's
  batch file that holds only some); the job then says how many, and their unit stays unfinished.
  It has yielded all that it will of a batch before it pulls the next. Without it a row that is
  left out is a fault of the part.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fusechat.parts import RowPart, Where
from fusechat.records import (
    Candidate,
    LogpRequest,
    Record,
    Request,
    Response,
    Score,
    SourceLogp,
)
from fusechat.tables import SHARD_ROWS

RowIn = Request | Candidate | LogpRequest
RowOut = Response | Score | SourceLogp
StopRule = Callable[[Sequence[RowOut]], "str | None"]
"""Is told of each group of finished rows; says why the job ends here, or None to go on. Called
once with no rows before anything is handed out, so that a limit used up before asks for nothing."""
Find = Callable[[Collection[str]], Mapping[str, Record]]
"""Some `made_from` -> those rows among them that the same part already made elsewhere."""


@dataclass
class Batch:
    """Rows that one worker computes together; `attempt` counts workers that died over them."""

    rows: list[Any]
    attempt: int = 0

    def retries(self, held: Sequence[Any]) -> list[Batch]:
        """How to compute again what a dead worker held of this batch; none: give the row up.

        Halves, so that of 500 rows in flight the one that kills is found after nine deaths,
        and the others are computed in company.
        """
        if len(held) == 1 and self.attempt:
            return []
        half = (len(held) + 1) // 2
        pieces = [held[:half], held[half:]]
        return [Batch(list(piece), self.attempt + 1) for piece in pieces if piece]


class RowExecutor(Protocol):
    """Computes batches somewhere; see the top of this file."""

    def map(
        self, part: RowPart, batches: Iterable[Batch], where: Where
    ) -> Generator[Sequence[RowOut], None, None]:
        """Compute every row of `batches` once, pulling them as there is room."""
        ...

    def notes(self) -> Sequence[Mapping[str, Any]]:
        """What the workers of the last `map` had to say of the part that they opened."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


@dataclass
class RowJob:
    """One row-wise unit: its part, its inputs and its place."""

    part: RowPart
    rows: Iterable[Any]
    """`Request`s, `Candidate`s or `LogpRequest`s in the order that the table will have, or
    collections of them: all rows of a prompt, made when they are iterated. It is gone through
    several times, and the rows of a prompt stand side by side."""
    row_type: type[Record]
    folder: Path
    """The unit's folder; the table is `data/`, journals and leases are below `journal/`."""
    adopted: Find | None = None
    retry_errors: bool = False
    max_failed: int | None = None
    """With more failed rows than this the job ends early, its rows kept; its caller counts them."""
    shard_rows: int = SHARD_ROWS
    """A shard closes at the first prompt boundary at or after so many rows."""
    stop: StopRule | None = None
    total: int | None = None
    """Number of rows, where it is known; else they are counted first."""
    valid: Callable[[], bool] = lambda: True
    """Asked before each shard: whether the inputs are still those that this job reads."""


@dataclass(frozen=True)
class JobResult:
    """How a job ended."""

    rows: int
    """Of its input."""
    missing: int = 0
    """Rows without an answer: stopped, failed too often, left to other workers or for later."""
    stopped: str | None = None
    """Why it was stopped, where a limit did."""
    failed_early: bool = False
    """Whether too many rows failed."""

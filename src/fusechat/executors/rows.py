"""Row-wise work on disk: shards, journals, exactly-once, and the executor's contract.

A `RowJob` maps input rows to output rows with one part. The rows are cut into shards in
input order; finished rows are appended to the shard's journal, and a complete shard is
sorted into input order and renamed into place. Executors only compute; all that is kept is
written here, by one process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from fusechat.errors import PartError
from fusechat.faultpoints import reach
from fusechat.parts import RowPart, Where
from fusechat.progress import Progress
from fusechat.records import Candidate, Record, Request, Response, Score
from fusechat.tables import (
    SHARD_ROWS,
    append_jsonl,
    mend_torn_line,
    read_json,
    read_jsonl,
    read_table,
    shard_path,
    write_json,
    write_shard,
)

RowIn = Request | Candidate
RowOut = Response | Score
STREAM_CHUNK = 16
"""Rows handed to a worker at a time where a part streams."""
_NOTES = Path("journal") / "notes.json"


@dataclass
class Batch:
    """Rows that one worker computes together; `attempt` counts workers that died over it."""

    rows: list[Any]
    attempt: int = 0


class RowExecutor(Protocol):
    """Computes batches somewhere. `map` yields finished rows, in any order, in groups.

    A group is journaled as a whole. Rows that cannot be computed come back as failures.
    """

    def map(
        self, part: RowPart, batches: Sequence[Batch], where: Where
    ) -> Generator[Sequence[RowOut], None, None]:
        """Compute every row of `batches` once."""
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
    rows: Sequence[Any]
    """`Request`s or `Candidate`s, in the order that the table will have."""
    row_type: type[Record]
    folder: Path
    """The unit's folder; the table is `data/`, journals are below `journal/`."""
    adopted: Mapping[str, Record] = field(default_factory=dict)
    """`made_from` -> a row that the same part made elsewhere."""
    retry_errors: bool = False
    max_failed: int | None = None
    """With more failed rows than this the job ends early, its rows kept; its caller counts them."""
    shard_rows: int = SHARD_ROWS


class _Shard:
    """One shard in the making: its inputs by `made_from`, and the answers so far."""

    def __init__(self, job: RowJob, number: int) -> None:
        self.job, self.number = job, number
        start = number * job.shard_rows
        self.rows = list(job.rows[start : start + job.shard_rows])
        self.path = shard_path(job.folder / "data", number)
        self.journal = job.folder / "journal" / f"{number:05d}.jsonl"
        self.answers: dict[str, Any] = {}
        self.wanted = {row.made_from: row for row in reversed(self.rows)}

    @property
    def open(self) -> bool:
        # A finished shard has a journal where a retry of its failed rows was killed.
        return self.job.retry_errors or not self.path.exists() or self.journal.exists()

    @property
    def complete(self) -> bool:
        return len(self.answers) == len(self.wanted)

    def kept(self) -> Iterator[Any]:
        """The answers that are on disk, finished or in the journal."""
        if self.path.exists():
            yield from read_table(self.path.parent, self.job.row_type, self.path.name)
        yield from _journaled(self.journal, self.job.row_type)

    def load(self) -> None:
        """Take up what is there: the journal, a shard to be retried, adopted rows."""
        mend_torn_line(self.journal)
        for row in sorted(self.kept(), key=failed):
            if not (self.job.retry_errors and failed(row)):
                self.offer(row)
        for made_from in self.wanted.keys() & self.job.adopted.keys():
            self.offer(self.job.adopted[made_from])

    def offer(self, row: Any) -> bool:
        """Take an answer if it is wanted and new."""
        if row.made_from not in self.wanted or row.made_from in self.answers:
            return False
        self.answers[row.made_from] = row
        return True

    def batches(self, owned: Callable[[str], bool]) -> list[Batch]:
        """What is left to compute, cut as the part wants it, from all rows that are its own."""
        unique = list({row.made_from: row for row in self.rows}.values())
        mine = [
            r for r in unique if owned(r.made_from) and r.made_from not in self.job.adopted
        ]  # fmt: skip
        cut = self.job.part.cut(mine)
        if cut is not None:
            return [Batch(b) for b in cut if any(r.made_from not in self.answers for r in b)]
        left = [row for row in mine if row.made_from not in self.answers]
        pieces = range(0, len(left), STREAM_CHUNK)
        return [Batch(left[i : i + STREAM_CHUNK]) for i in pieces]

    def finish(self) -> None:
        """Sort into input order, rename into place, drop the journal."""
        ordered = [relabel(self.answers[row.made_from], row) for row in self.rows]
        write_shard(self.path, ordered, self.job.row_type)
        self.journal.unlink(missing_ok=True)
        reach("journal.removed")


class _Ledger:
    """All shards of a job: who computes a row, who else wants it, what is still open.

    Rows of the same content are computed once, by the first shard that holds one.
    """

    def __init__(self, job: RowJob) -> None:
        self.job = job
        count = max(1, -(-len(job.rows) // job.shard_rows))
        self.shards = [_Shard(job, number) for number in range(count)]
        self.owner: dict[str, int] = {}
        self.wanting: dict[str, list[_Shard]] = {}
        for shard in self.shards:
            for made_from in shard.wanted:
                self.owner.setdefault(made_from, shard.number)
                if shard.open:
                    self.wanting.setdefault(made_from, []).append(shard)
        self.open = [shard for shard in self.shards if shard.open]

    def load(self) -> None:
        """Read what is kept, share it between shards, and finish what is complete."""
        for shard in self.open:
            shard.load()
        for shard in self._lenders():
            for row in shard.kept():
                self._share(row)
        for shard in self.open:
            if shard.complete:
                shard.finish()

    def _lenders(self) -> list[_Shard]:
        borrowed = {
            self.owner[made_from]
            for shard in self.open
            for made_from in shard.wanted
            if self.owner[made_from] != shard.number and made_from not in shard.answers
        }
        return [self.shards[number] for number in sorted(borrowed)]

    def _share(self, row: Any) -> list[_Shard]:
        if self.job.retry_errors and failed(row):
            return []
        return [shard for shard in self.wanting.get(row.made_from, ()) if shard.offer(row)]

    def batches(self) -> list[Batch]:
        """All that is left to compute."""
        out: list[Batch] = []
        for shard in self.open:
            if not shard.complete:
                out += shard.batches(lambda m, n=shard.number: self.owner[m] == n)  # type: ignore[misc]
        return out

    def file(self, group: Sequence[RowOut]) -> int:
        """Journal a group with its owners, share it, finish shards; returns rows answered."""
        journaled: dict[int, list[RowOut]] = {}
        touched: list[_Shard] = []
        for row in group:
            if row.made_from not in self.wanting:
                name = self.job.part.part_name()
                raise PartError(f"{name} answered a row that was not asked: {row.made_from}.")
            takers = [shard for shard in self.wanting[row.made_from] if shard.offer(row)]
            if takers:
                journaled.setdefault(self.owner[row.made_from], []).append(row)
            touched += takers
        for number, rows in journaled.items():
            journal = self.shards[number].journal
            append_jsonl(journal, *(row.model_dump(mode="json") for row in rows))
        for shard in {id(shard): shard for shard in touched}.values():
            if shard.complete:
                shard.finish()
        return len(touched)


def run_job(
    job: RowJob, executor: RowExecutor, where: Where, progress: Progress, what: str
) -> None:
    """Answer every row of `job` exactly once; what an earlier, killed run finished is kept.

    Raises `PartError` where the part answers a row that was not asked, or leaves one out.
    """
    ledger = _Ledger(job)
    ledger.load()
    wanted = sum(len(shard.wanted) for shard in ledger.shards)
    left = sum(len(shard.wanted) - len(shard.answers) for shard in ledger.open)
    progress.start(wanted, what, done=wanted - left)
    batches = ledger.batches()
    failures = sum(failed(row) for shard in ledger.open for row in shard.answers.values())
    noted = 0
    if batches:
        with contextlib.closing(executor.map(job.part, batches, where)) as groups:
            for group in groups:
                if len(executor.notes()) > noted:
                    write_json(job.folder / _NOTES, list(executor.notes()))
                    noted = len(executor.notes())
                progress.advance(ledger.file(group))
                failures += sum(map(failed, group))
                if job.max_failed is not None and failures > job.max_failed:
                    return
    missing = sum(len(shard.wanted) - len(shard.answers) for shard in ledger.open)
    if missing:
        raise PartError(f"{job.part.part_name()} left {missing} of {wanted} rows unanswered.")


def notes_of(folder: Path) -> list[dict[str, Any]]:
    """What the workers of an unfinished unit's last run said of its part."""
    path = folder / _NOTES
    notes: list[dict[str, Any]] = read_json(path) if path.exists() else []
    return notes


def relabel(row: Record, asked: RowIn) -> Record:
    """The same answer under the asker's names: rows are shared by content, not by name."""
    if isinstance(asked, Request):
        assert isinstance(row, Response)
        return asked.response(row.text, row.finish, **_kept(row))
    assert isinstance(row, Score)
    names = {"response_id": asked.response.id, "annotator": asked.annotator}
    return row.model_copy(update=names)


def _kept(row: Response) -> dict[str, Any]:
    names = ("reasoning", "error", "tokens", "seed", "logprob", "model")
    return {name: getattr(row, name) for name in names}


def failed(row: Record) -> bool:
    """Whether a row is kept with an error."""
    if isinstance(row, Response):
        return row.finish == "error"
    return isinstance(row, Score) and row.status == "error"


def failure(asked: RowIn, reason: str) -> RowOut:
    """The kept record of a row that could not be computed."""
    return asked.failure(reason) if isinstance(asked, Request) else asked.error(reason)


def answers_of(folder: Path, row_type: type[Record]) -> Iterator[Record]:
    """All rows that a row-wise unit has on disk, finished or in journals."""
    yield from read_table(folder / "data", row_type)
    for journal in sorted((folder / "journal").glob("*.jsonl")):
        yield from _journaled(journal, row_type)


def _journaled(journal: Path, row_type: type[Record]) -> Iterator[Any]:
    """The rows of a journal; a line that is none is left out, and its row computed again."""
    for row in read_jsonl(journal):
        with suppress(ValidationError):
            yield row_type.model_validate(row)


def compute(
    work: Callable[[Iterator[Any]], Iterator[Any]], rows: Iterable[RowIn]
) -> Iterator[RowOut]:
    """Call a part's work; a row that fails twice is answered with its error, never left out."""
    asked = {row.made_from: row for row in rows}
    try:
        for out in work(iter(list(asked.values()))):
            asked.pop(out.made_from, None)
            yield out
    except Exception as first:  # noqa: BLE001 - a part's own fault must not lose its rows
        for row in list(asked.values()):
            yield _alone(work, row, first)


def _alone(work: Callable[[Iterator[Any]], Iterator[Any]], row: RowIn, first: Exception) -> RowOut:
    try:
        (out,) = list(work(iter([row])))
    except Exception as error:  # noqa: BLE001 - kept in the row, with both errors if they differ
        again = f"{type(error).__name__}: {error}"
        before = f"{type(first).__name__}: {first}"
        return failure(row, again if again == before else f"{again} (first: {before})")
    if not isinstance(out, (Response, Score)):
        return failure(row, f"the part gave a {type(out).__name__} where an answer is due")
    return out

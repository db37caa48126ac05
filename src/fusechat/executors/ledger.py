"""The shards of one job in this process: taken one after the other, journaled, put in place.

Only as many shards are open as have rows under way, so memory does not grow with the job. Rows
of the same content share a prompt, and a prompt's rows are in one shard: each shard stands alone.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fusechat.errors import PartError
from fusechat.executors.answers import failed, journaled, relabel
from fusechat.executors.contract import Batch, RowJob, RowOut
from fusechat.executors.leases import Lease, Leases, link_new
from fusechat.executors.shards import Cut, chunks, cuts
from fusechat.faultpoints import reach
from fusechat.files import append_jsonl, sync_folder
from fusechat.progress import Progress
from fusechat.tables import read_columns, read_table, rows_in, shard_path, shards, write_shard

REMEMBERED = 32
"""Shards whose names are kept after they closed, for answers that come twice or late."""
STOPPED = "stopped"
"""A file beside the journals: the run was stopped by a limit, and workers take nothing more."""


class OpenShard:
    """One shard in the making: its inputs by `made_from`, and the answers so far."""

    def __init__(self, job: RowJob, cut: Cut, lease: Lease, journals: Sequence[Path]) -> None:
        self.job, self.number, self.lease = job, cut.number, lease
        self.rows = cut.rows()
        self.wanted = Counter(row.made_from for row in self.rows)
        self.answers: dict[str, Any] = {}
        self.path = shard_path(job.folder / "data", cut.number)
        self._folder = job.folder / "journal"
        self.journal = _journal(self._folder, cut.number, lease.generation)
        self.counted = 0
        """Input rows that the ledger has counted as answered."""
        self._earlier = list(journals)
        self._adopted: Collection[str] = ()
        self._refilled = False
        """Whether the shard was in place before: with gaps or failures, or just before a kill."""

    @property
    def complete(self) -> bool:
        return len(self.answers) == len(self.wanted)

    @property
    def answered(self) -> int:
        """Input rows that have their answer."""
        return sum(self.wanted[name] for name in self.answers)

    def load(self) -> None:
        """Take up what is there: journals, a shard with gaps or failures, adopted rows.

        Drafts of earlier holders are removed first: one that sleeps after its last look at its
        lease finds nothing to put in place when it wakes.
        """
        for draft in self._folder.glob(f".{self.number:05d}.*.parquet"):
            draft.unlink(missing_ok=True)
        kept: list[Any] = []
        self._refilled = self.path.exists()
        if self._refilled:
            kept += read_table(self.path.parent, self.job.row_type, self.path.name)
        for journal in self._earlier:
            kept += journaled(journal, self.job.row_type)
        for row in sorted(kept, key=failed):
            if not (self.job.retry_errors and failed(row)):
                self.offer(row)
        if self.job.adopted is not None:
            found = self.job.adopted(self.wanted.keys())
            for row in found.values():
                self.offer(row)
            self._adopted = found.keys()

    def offer(self, row: Any) -> bool:
        """Take an answer if it is wanted and new."""
        if row.made_from not in self.wanted or row.made_from in self.answers:
            return False
        self.answers[row.made_from] = row
        return True

    def batches(self) -> list[Batch]:
        """What is left to compute, cut as the part wants it, from all rows that are its own."""
        unique = {row.made_from: row for row in self.rows}
        mine = [row for name, row in unique.items() if name not in self._adopted]
        cut = self.job.part.cut(mine)
        if cut is not None:
            return [Batch(b) for b in cut if any(r.made_from not in self.answers for r in b)]
        left = [row for row in mine if row.made_from not in self.answers]
        return [Batch(chunk) for chunk in chunks(left)]

    def keep(self, rows: Sequence[RowOut]) -> None:
        """Make answers durable."""
        append_jsonl(self.journal, *(row.model_dump(mode="json") for row in rows))

    def finish(self) -> bool:
        """Put the answers in place, in input order; whether the shard was still this process's."""
        here = [row for row in self.rows if row.made_from in self.answers]
        ordered = [relabel(self.answers[row.made_from], row) for row in here]
        draft = self._folder / f".{self.number:05d}.{self.lease.generation}.parquet"
        write_shard(draft, ordered, self.job.row_type)
        if not self.lease.held() or not self.job.valid():
            draft.unlink(missing_ok=True)
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if self._refilled:
                draft.replace(self.path)
            else:
                with suppress(FileExistsError):  # the first one wins
                    link_new(draft, self.path)
                draft.unlink(missing_ok=True)
        except FileNotFoundError:  # taken over since the look at the lease, see `load`
            return False
        sync_folder(self.path.parent)
        reach("shard.placed")
        for journal in (*self._earlier, self.journal):
            journal.unlink(missing_ok=True)
        reach("journal.removed")
        return True


class Ledger:
    """All shards of a job as one process sees them: which are open here, who has the others."""

    def __init__(self, job: RowJob, progress: Progress, closing: bool, partial: bool) -> None:
        """`closing`: this process closes the unit in the end, so it waits for what others hold.
        `partial`: rows may stay unanswered; a shard is let go when all its batches were pulled."""
        self.job, self.progress, self.closing, self.partial = job, progress, closing, partial
        self.leases = Leases(job.folder / "journal")
        self.open: dict[int, OpenShard] = {}
        self.answered = self.failures = 0
        self.stopped: str | None = None
        self._wanting: dict[str, list[OpenShard]] = {}
        self._recent: deque[Collection[str]] = deque(maxlen=REMEMBERED)
        self._elsewhere: dict[int, int] = {}
        self._retried: set[int] = set()
        self._there = {int(p.stem): rows_in(p) for p in shards(job.folder / "data")}
        self._journals = self._list_journals()

    def start(self, what: str) -> int:
        """Begin showing progress; the number of rows of the job."""
        if self.closing:
            self._mark.unlink(missing_ok=True)
        total = self.job.total
        if total is None:
            total = sum(cut.size for cut in cuts(self.job.rows, self.job.shard_rows))
        self.progress.start(total, what, done=sum(self._there.values()))
        return total

    def batches(self) -> Iterator[Batch]:
        """All that is left to compute, shard by shard, as it is pulled; ends early at a stop."""
        first = not self._elsewhere
        again, self._elsewhere = self._elsewhere, {}
        for cut in cuts(self.job.rows, self.job.shard_rows):
            if not first and cut.number not in again:
                continue
            if self._ended():
                return
            shard = self._take(cut)
            for batch in [] if shard is None else shard.batches():
                if self._ended():
                    return
                if self.open.get(cut.number) is shard:
                    yield batch
            if self.partial and cut.number in self.open:
                self._forget(self.open[cut.number], lost=False)

    def file(self, group: Sequence[RowOut]) -> None:
        """Journal a group, shard by shard, and finish what is complete."""
        new: dict[int, list[RowOut]] = {}
        for row in group:
            for shard in self._wanting.get(row.made_from, ()):
                if shard.offer(row):
                    new.setdefault(shard.number, []).append(row)
            if row.made_from not in self._wanting:
                self._check_known(row)
        for number, rows in new.items():
            shard = self.open[number]
            if not shard.lease.held():
                self._forget(shard, lost=True)
                continue
            shard.keep(rows)
            self._count(shard, sum(shard.wanted[row.made_from] for row in rows))
            self.failures += sum(map(failed, rows))
            if shard.complete:
                self._finish(shard)

    def stop(self, reason: str) -> None:
        """Hand out nothing more, here or in other workers."""
        self.stopped = reason
        if self.closing:
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            self._mark.write_text(reason, encoding="utf-8")

    def more_to_take(self) -> bool:
        """Whether shards that others held are free; the closing process waits for each."""
        said = False
        while self._elsewhere and not self.stopped:
            for number, size in sorted(self._elsewhere.items()):
                if self._is_whole(number, size):
                    self._pass(self._elsewhere.pop(number), number)
                elif self.leases.is_free(number):
                    return True
            if not self.closing or not self._elsewhere:
                return False
            if not said:
                self.progress.note(f"waiting for {len(self._elsewhere)} shards of other workers")
            said = True
            time.sleep(self.leases.pause)
        return False

    def close_gaps(self) -> None:
        """Put every shard in place with the rows that are there; for a job that was stopped."""
        for shard in list(self.open.values()):
            self._place(shard)
        for cut in cuts(self.job.rows, self.job.shard_rows):
            while not self._closed(cut):
                time.sleep(self.leases.pause)
        if not shards(self.job.folder / "data"):
            write_shard(shard_path(self.job.folder / "data", 0), [], self.job.row_type)

    def close(self) -> None:
        """Let all shards go; their journals stay."""
        self.leases.close()

    @property
    def _mark(self) -> Path:
        return self.job.folder / "journal" / STOPPED

    def _ended(self) -> bool:
        return bool(self.stopped) or (not self.closing and self._mark.exists())

    def _take(self, cut: Cut) -> OpenShard | None:
        """Open a shard that is neither finished nor another's, and has rows left to compute."""
        if not self.job.valid():
            self.stopped = "its inputs have changed"
            return None
        shard = self._opened(cut)
        if shard is None:
            return None
        if shard.complete:
            self._finish(shard)
            return None
        return shard

    def _opened(self, cut: Cut) -> OpenShard | None:
        if self._finished(cut):
            self._pass(cut.size, cut.number)
            return None
        lease = self.leases.take(cut.number, self._generation(cut.number))
        if lease is None:
            self._elsewhere[cut.number] = cut.size
            return None
        journals = self._journals_of(cut.number)
        if not journals and self._finished(cut):  # by another, just now
            self.leases.give_back(lease)
            self._pass(cut.size, cut.number)
            return None
        shard = OpenShard(self.job, cut, lease, journals)
        shard.load()
        self.open[cut.number] = shard
        for name in shard.wanted:
            self._wanting.setdefault(name, []).append(shard)
        self._count(shard, shard.answered, self._there.pop(cut.number, 0))
        self.failures += sum(map(failed, shard.answers.values()))
        return shard

    def _finish(self, shard: OpenShard) -> None:
        self._forget(shard, lost=not shard.finish())

    def _forget(self, shard: OpenShard, lost: bool) -> None:
        del self.open[shard.number]
        for name in shard.wanted:
            self._wanting[name].remove(shard)
            if not self._wanting[name]:
                del self._wanting[name]
        self._recent.append(shard.wanted.keys())
        if self.job.retry_errors:
            self._retried.add(shard.number)
        if lost:
            self._elsewhere[shard.number] = len(shard.rows)
            self.answered -= shard.counted
        self.leases.give_back(shard.lease)

    def _count(self, shard: OpenShard, answered: int, shown: int = 0) -> None:
        """`shown`: how many of them progress has counted already."""
        shard.counted += answered
        self.answered += answered
        self.progress.advance(answered - shown)

    def _pass(self, size: int, number: int) -> None:
        self.answered += size
        self.progress.advance(size - self._there.pop(number, 0))

    def _check_known(self, row: RowOut) -> None:
        if not any(row.made_from in names for names in self._recent):
            name = self.job.part.part_name()
            raise PartError(f"{name} answered a row that was not asked: {row.made_from}.")

    def _finished(self, cut: Cut) -> bool:
        """Whether a shard is in place with all its rows, and nothing is to be done to it."""
        if cut.number in self._journals and self._journals_of(cut.number):
            return False  # a kill, or a retry that was killed, left it
        if not self._is_whole(cut.number, cut.size):
            return False
        again = self.job.retry_errors and cut.number not in self._retried
        return not (again and self._has_failures(cut.number))

    def _is_whole(self, number: int, size: int) -> bool:
        path = shard_path(self.job.folder / "data", number)
        return path.exists() and rows_in(path) == size

    def _has_failures(self, number: int) -> bool:
        column = "finish" if "finish" in self.job.row_type.model_fields else "status"
        path = shard_path(self.job.folder / "data", number)
        return "error" in read_columns(path, [column])[column].to_pylist()

    def _closed(self, cut: Cut) -> bool:
        """Put one shard in place with what there is; False where another still holds it."""
        self._elsewhere.pop(cut.number, None)
        if cut.number in self._retried or self._has_nothing(cut) or self._finished(cut):
            return True
        shard = self._opened(cut)
        if shard is None:
            return cut.number not in self._elsewhere
        self._place(shard)
        return True

    def _has_nothing(self, cut: Cut) -> bool:
        """Whether no row of a shard is there, so that it need not be opened to see."""
        path = shard_path(self.job.folder / "data", cut.number)
        found = (
            path.exists() or self._journals_of(cut.number) or self.leases.generations(cut.number)
        )
        return self.job.adopted is None and not found

    def _place(self, shard: OpenShard) -> None:
        """Put a shard in place with gaps, or forget it where it has no row."""
        self._retried.add(shard.number)
        if shard.answers:
            self._finish(shard)
        else:
            self._forget(shard, lost=False)

    def _list_journals(self) -> set[int]:
        folder = self.job.folder / "journal"
        names = os.listdir(folder) if folder.exists() else []
        return {int(name.partition(".")[0]) for name in names if name.endswith(".jsonl")}

    def _journals_of(self, number: int) -> list[Path]:
        return sorted((self.job.folder / "journal").glob(f"{number:05d}.*jsonl"))

    def _generation(self, number: int) -> int:
        """The latest generation that left a journal."""
        names = [path.name.split(".") for path in self._journals_of(number)]
        return max((int(words[1]) if len(words) == 3 else 1 for words in names), default=0)


def _journal(folder: Path, number: int, generation: int) -> Path:
    middle = "" if generation == 1 else f".{generation}"
    return folder / f"{number:05d}{middle}.jsonl"

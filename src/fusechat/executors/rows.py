"""Row-wise work on disk: shards, journals, exactly-once, and the executor's contract.

A `RowJob` maps input rows to output rows with one part. The rows are cut into shards at prompt
boundaries (`shards.py`); a process takes a shard by its lease (`leases.py`), appends finished
rows to the shard's journal, and puts a complete shard in place in input order (`ledger.py`).
Executors only compute; what they must do stands in `contract.py`.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from fusechat.errors import PartError
from fusechat.executors.answers import NOTES
from fusechat.executors.answers import answers_of as answers_of
from fusechat.executors.answers import compute as compute
from fusechat.executors.answers import failed as failed
from fusechat.executors.answers import failure as failure
from fusechat.executors.answers import journaled as journaled
from fusechat.executors.answers import notes_of as notes_of
from fusechat.executors.answers import relabel as relabel
from fusechat.executors.contract import Batch as Batch
from fusechat.executors.contract import Find as Find
from fusechat.executors.contract import JobResult as JobResult
from fusechat.executors.contract import RowExecutor as RowExecutor
from fusechat.executors.contract import RowIn as RowIn
from fusechat.executors.contract import RowJob as RowJob
from fusechat.executors.contract import RowOut as RowOut
from fusechat.executors.contract import StopRule as StopRule
from fusechat.executors.ledger import Ledger
from fusechat.files import write_json
from fusechat.parts import Where
from fusechat.progress import Progress
from fusechat.tables import count_rows


def run_job(
    job: RowJob,
    executor: RowExecutor,
    where: Where,
    progress: Progress,
    what: str,
    *,
    closing: bool = True,
) -> JobResult:
    """Answer every row of `job` exactly once; what an earlier, killed run finished is kept.

    `closing`: whether this process will close the unit. It then waits for shards that other
    workers hold, takes over those of dead ones, and, where the job is stopped, puts shards with
    gaps in place. Without it, it ends when no shard is left to take.

    Raises `PartError` where the part answers a row that was not asked, or leaves one out.
    """
    partial = bool(getattr(executor, "partial", False))
    ledger = Ledger(job, progress, closing, partial)
    try:
        rows = ledger.start(what)
        if job.stop is not None and (reason := job.stop([])):
            ledger.stop(reason)
        early = _map(job, executor, where, ledger)
        while not early and not ledger.open and ledger.more_to_take():
            early = _map(job, executor, where, ledger)
        missing = rows - ledger.answered
        if early:
            return JobResult(rows, missing, failed_early=True)
        if ledger.open and not partial and not ledger.stopped:
            left = sum(len(shard.rows) - shard.answered for shard in ledger.open.values())
            raise PartError(f"{job.part.part_name()} left {left} of {rows} rows unanswered.")
        if ledger.stopped and closing:
            ledger.close_gaps()
            missing = rows - count_rows(job.folder / "data")
        return JobResult(rows, missing, ledger.stopped)
    finally:
        ledger.close()


def _map(job: RowJob, executor: RowExecutor, where: Where, ledger: Ledger) -> bool:
    """Compute what is to be had; whether too many rows failed."""
    noted = 0
    try:
        with contextlib.closing(executor.map(job.part, ledger.batches(), where)) as groups:
            for group in groups:
                noted = _note(job, executor, ledger, noted)
                ledger.file(group)
                if job.max_failed is not None and ledger.failures > job.max_failed:
                    return True
                if job.stop and not ledger.stopped and (reason := job.stop(group)):
                    ledger.stop(reason)
    finally:
        _note(job, executor, ledger, noted)
    return False


def _note(job: RowJob, executor: RowExecutor, ledger: Ledger, noted: int) -> int:
    """Keep what the workers say of their part, where that is more than was noted."""
    notes = list(executor.notes())
    if len(notes) > noted:
        write_json(_notes_file(job.folder, ledger.closing), notes)
    return len(notes)


def _notes_file(folder: Path, closing: bool) -> Path:
    own = "" if closing else f"-{socket.gethostname()}-{os.getpid()}"
    return folder / "journal" / f"{NOTES}{own}.json"

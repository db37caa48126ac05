"""Sampling and annotating: the two row-wise stages.

Both turn tables into streams of input rows (`candidates.py`) and leave the work to the executor.
The run does a unit as a whole; `work` computes shards of it beside the run, in other processes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusechat.errors import EmptyError, PartError, TooManyErrorsError
from fusechat.executors.rows import JobResult, RowJob, notes_of, run_job
from fusechat.parts import UnreadableRow
from fusechat.records import Dropped, Record, Response, Score, SourceLogp
from fusechat.stages.benchmark_units import JUDGE
from fusechat.stages.candidates import Candidates, Requests
from fusechat.stages.context import UnitContext
from fusechat.stages.entries import AnnotatorEntry, LogpsEntry, SourceEntry
from fusechat.stages.on_policy import reserved_ids
from fusechat.stages.rowwise_counts import (
    annotate_counts,
    failures,
    names_made,
    sample_counts,
    served,
)
from fusechat.stages.slim import write_index
from fusechat.stages.source_logps import LogpRequests, logp_counts
from fusechat.tables import write_table

FEW_FAILED = 50
"""A unit that will be stopped for its failed rows is not stopped before so many of them."""
Count = Callable[[list[str]], int]
"""`made_from` of some rows -> how many of them were adopted."""


def sample(context: UnitContext) -> dict[str, Any]:
    """Ask one source for its responses to all prompts that it is wanted for."""
    entry: SourceEntry = context.settings
    requests, job, without = _asked(context)
    with _adopting(context, job) as (whole, count):
        result = _run(context, whole, "responses")
        adopted = sum(map(count, names_made(context.folder)))
    unread = [_unread(_source_name(context), row) for row in entry.part.unread()]
    write_table(context.folder / "dropped", _both(requests.dropped(), unread), Dropped)
    if context.name.startswith("sample/"):
        write_index(context.folder)
    counts = sample_counts(context.folder, _prompts_table(context.inputs))
    counts |= {"prompts_without_response": without, "adopted": adopted}
    counts |= served(notes_of(context.folder))
    return counts | {"unread": dict(Counter(row.reason for row in unread))} | _stopped(result)


def annotate(context: UnitContext) -> dict[str, Any]:
    """Judge with one annotator all responses of the domains that it judges."""
    candidates, job = _judged(context)
    with _adopting(context, job) as (whole, count):
        result = _run(context, whole, "scores")
        adopted = sum(map(count, names_made(context.folder)))
    if context.name.startswith("annotate/"):
        write_index(context.folder)
    counts = annotate_counts(context.folder, candidates.places()) | {"adopted": adopted}
    return _notes(context) | counts | _stopped(result)


def source_logps(context: UnitContext) -> dict[str, Any]:
    """Ask one source's model how likely it finds every response of the preference rows."""
    with _adopting(context, _read(context)) as (whole, count):
        result = _run(context, whole, "responses")
        adopted = sum(map(count, names_made(context.folder)))
    return logp_counts(context.folder) | {"adopted": adopted} | _stopped(result)


def work(context: UnitContext, valid: Callable[[], bool] = lambda: True) -> JobResult:
    """Compute shards of a unit until none is left to take; the run that closes it is another's.

    `valid` is asked before each shard: whether the unit still reads the same inputs.
    """
    entry = context.settings
    if isinstance(entry, LogpsEntry):
        job = _read(context)
    else:
        job = _asked(context)[1] if isinstance(entry, SourceEntry) else _judged(context)[1]
    with _adopting(context, replace(job, valid=valid)) as (whole, _):
        return _ran(context, whole, "rows", closing=False)


def _asked(context: UnitContext) -> tuple[Requests, RowJob, int]:
    """The requests of a sample unit, its job, and the number of prompts without a request."""
    entry: SourceEntry = context.settings
    prompts = _prompts_table(context.inputs)
    only = reserved_ids(context.inputs["build"]) if "build" in context.inputs else None
    requests = Requests(entry, prompts, _source_name(context), context.seed, only)
    total, without = requests.survey()
    if without and not total:
        raise EmptyError(
            f"{context.name}: the source has no response to any of {without} prompts. Its own "
            "prompts must be the very same messages; look at its 'prompt' column, or remove it."
        )
    return requests, _job(context, entry.part, requests, Response, total), without


def _judged(context: UnitContext) -> tuple[Candidates, RowJob]:
    """The candidates of an annotate unit, and its job."""
    entry: AnnotatorEntry = context.settings
    annotator = "grade"
    if context.name.startswith("annotate/"):
        annotator = context.name.split("/")[1].partition("@")[0]
    samples = {name: path for name, path in context.inputs.items() if not _holds_prompts(name)}
    candidates = Candidates(entry, _prompts_table(context.inputs), samples, annotator)
    total = candidates.survey()
    return candidates, _job(context, entry.part, candidates, Score, total)


def _read(context: UnitContext) -> RowJob:
    """The job of a `source_logps` unit."""
    entry: LogpsEntry = context.settings
    requests = LogpRequests(entry, context.inputs, context.name.split("/")[-1])
    return _job(context, entry.part, requests, SourceLogp, requests.survey())


def _job(context: UnitContext, part: Any, rows: Any, row_type: type[Record], total: int) -> RowJob:
    return RowJob(
        part,
        rows,
        row_type,
        context.folder,
        retry_errors=context.retry_errors,
        max_failed=max(FEW_FAILED, math.floor(context.max_error_share * total)),
        stop=context.stop,
        total=total,
    )


@contextmanager
def _adopting(context: UnitContext, job: RowJob) -> Iterator[tuple[RowJob, Count]]:
    """The job with a look-up of rows to adopt, as long as this is open."""
    if context.adoptable is None:
        yield job, lambda names: 0
        return
    with context.adoptable(job.part.digest()) as known:
        yield replace(job, adopted=known.find if known else None), known.count


def _prompts_table(inputs: Mapping[str, Path]) -> Path:
    (folder,) = (path for name, path in inputs.items() if _holds_prompts(name))
    return folder / "prompts"


def _holds_prompts(unit: str) -> bool:
    """Whether a unit is a prompt table; a source may be called `prompts`, too."""
    of_a_task = unit.startswith(("evaluate/", "select/")) and unit.endswith("/prompts")
    return unit == "prompts" or of_a_task


def _source_name(context: UnitContext) -> str:
    """The source, or in an evaluation the model, or its judge."""
    steps = context.name.split("/")
    if steps[0] == "evaluate":
        return JUDGE if JUDGE in steps[3:] else steps[2]
    return steps[-1 if steps[0] == "sample" else -2]


def _both(dropped: Iterator[Dropped], unread: list[Dropped]) -> Iterator[Dropped]:
    yield from dropped
    yield from unread


def _unread(source: str, row: UnreadableRow) -> Dropped:
    details = json.dumps({"place": row.place}, ensure_ascii=False)
    return Dropped(
        prompt_id="", origin=source, domain="", stage="read", reason=row.reason, details=details
    )


def _notes(context: UnitContext) -> dict[str, Any]:
    """What the part said of itself; of several workers' self-tests the widest spread counts."""
    known = notes_of(context.folder)
    return max(known, key=lambda note: note.get("self_test", {}).get("spread", 0.0), default={})


def _stopped(result: JobResult) -> dict[str, Any]:
    if result.stopped is None or not result.missing:
        return {}
    return {"stopped": {"reason": result.stopped, "missing": result.missing}}


def _run(context: UnitContext, job: RowJob, what: str) -> JobResult:
    """Run the job to its end, so that the unit can be closed."""
    result = _ran(context, job, what, closing=True)
    if result.missing and result.stopped is None:
        raise PartError(
            f"{context.name}: {result.missing} of {result.rows} rows are still without an answer. "
            "What is there is kept; run again to ask for the others."
        )
    return result


def _ran(context: UnitContext, job: RowJob, what: str, closing: bool) -> JobResult:
    """Run the job; too many failed rows stop the unit, with their commonest reasons."""
    assert context.executor is not None
    result = run_job(job, context.executor, context.where, context.progress, what, closing=closing)
    if not closing and not result.failed_early:
        return result
    reasons = failures(context.folder, job.row_type)
    share = reasons.total() / max(1, result.rows)
    if share > context.max_error_share:
        common = "\n".join(f"  {n} x {reason}" for reason, n in reasons.most_common(3))
        raise TooManyErrorsError(
            f"{context.name}: {reasons.total()} of {result.rows} rows failed ({share:.1%}, "
            f"max_error_share is {context.max_error_share:.1%}). The commonest reasons:\n{common}\n"
            "All rows so far are kept. Mend the cause and run again with --retry-errors, "
            "or raise max_error_share in the recipe."
        )
    return result

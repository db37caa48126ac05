"""Sampling and annotating: the two row-wise stages.

Both turn tables into input rows, each with the digest of all that the part sees
(`made_from`), and leave the work to the executor.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusechat.digests import digest
from fusechat.errors import EmptyError, TooManyErrorsError
from fusechat.executors.rows import RowJob, answers_of, failed, notes_of, run_job
from fusechat.parts import Annotator, Source, UnreadableRow
from fusechat.records import Candidate, Dropped, Prompt, Record, Request, Response, Score
from fusechat.stages.context import UnitContext
from fusechat.stages.entries import AnnotatorEntry, SourceEntry
from fusechat.stages.slim import write_index
from fusechat.tables import read_table, write_table

FEW_FAILED = 50
"""A unit that will be stopped for its failed rows is not stopped before so many of them."""


def sample(context: UnitContext) -> dict[str, Any]:
    """Ask one source for its responses to all prompts that it is wanted for."""
    entry: SourceEntry = context.settings
    prompts = read_table(_prompts_folder(context.inputs) / "prompts", Prompt)
    requests: list[Request] = []
    dropped: list[Dropped] = []
    part_digest = entry.part.digest()
    name = context.name.split("/")[-1] if context.name.startswith("sample/") else _model(context)
    for prompt in prompts:
        if not entry.wants(prompt.domain):
            continue
        found = list(_requests(entry, prompt, name, context.seed, part_digest))
        requests += found
        if not found:
            dropped.append(_without_response(prompt))
    if dropped and not requests:
        raise EmptyError(
            f"{context.name}: the source has no response to any of {len(dropped)} prompts. Its own "
            "prompts must be the very same messages; look at its 'prompt' column, or remove it."
        )
    job = _job(context, entry.part, requests, Response, part_digest)
    _run(context, job, "responses")
    unread = [_unread(name, row) for row in entry.part.unread()]
    write_table(context.folder / "dropped", [*dropped, *unread], Dropped)
    if context.name.startswith("sample/"):
        write_index(context.folder)
    counts = _sample_counts(context, job, len(dropped))
    return counts | {"unread": dict(Counter(row.reason for row in unread))}


def _prompts_folder(inputs: Mapping[str, Path]) -> Path:
    (folder,) = (path for name, path in inputs.items() if _holds_prompts(name))
    return folder


def _holds_prompts(unit: str) -> bool:
    """Whether a unit is a prompt table; a source may be called `prompts`, too."""
    return unit == "prompts" or (unit.startswith("evaluate/") and unit.endswith("/prompts"))


def _model(context: UnitContext) -> str:
    return context.name.split("/")[-2]


def _requests(
    entry: SourceEntry, prompt: Prompt, source: str, seed: int, part_digest: str
) -> Iterator[Request]:
    part: Source = entry.part
    wanted = entry.samples_for(prompt.domain)
    for index in range(part.available(prompt, wanted)):
        row_seed = int(digest([seed, part_digest, prompt.id, index]), 16) >> 1
        draft = Request(
            prompt=prompt,
            source=source,
            index=index,
            seed=row_seed,
            model=part.served_model(),
            made_from="",
        )
        made_from = digest([part_digest, part.sees(draft)])
        yield draft.model_copy(update={"made_from": made_from})


def _without_response(prompt: Prompt) -> Dropped:
    return Dropped(
        prompt_id=prompt.id,
        origin=prompt.origin,
        domain=prompt.domain,
        stage="sample",
        reason="no stored response",
    )


def _unread(source: str, row: UnreadableRow) -> Dropped:
    details = json.dumps({"place": row.place}, ensure_ascii=False)
    return Dropped(
        prompt_id="", origin=source, domain="", stage="read", reason=row.reason, details=details
    )


def annotate(context: UnitContext) -> dict[str, Any]:
    """Judge with one annotator all responses of the domains that it judges."""
    entry: AnnotatorEntry = context.settings
    prompts = {p.id: p for p in read_table(_prompts_folder(context.inputs) / "prompts", Prompt)}
    part_digest = entry.part.digest()
    annotator = context.name.split("/")[1] if context.name.startswith("annotate/") else "grade"
    candidates: list[Candidate] = []
    for name, folder in context.inputs.items():
        if _holds_prompts(name):
            continue
        for response in read_table(folder / "data", Response):
            prompt = prompts[response.prompt_id]
            if entry.judges(prompt.domain):
                candidates.append(_candidate(entry.part, prompt, response, annotator, part_digest))
    # Prompt by prompt, so that an annotator's batch may hold all responses of a prompt.
    places = {prompt_id: place for place, prompt_id in enumerate(prompts)}
    candidates.sort(key=lambda candidate: places[candidate.prompt.id])
    job = _job(context, entry.part, candidates, Score, part_digest)
    _run(context, job, "scores")
    if context.name.startswith("annotate/"):
        write_index(context.folder)
    return _notes(context) | _annotate_counts(context, job, candidates)


def _candidate(
    part: Annotator, prompt: Prompt, response: Response, annotator: str, part_digest: str
) -> Candidate:
    draft = Candidate(prompt=prompt, response=response, annotator=annotator, made_from="")
    return draft.model_copy(update={"made_from": digest([part_digest, part.sees(draft)])})


def _job(
    context: UnitContext, part: Any, rows: list[Any], row_type: type[Record], part_digest: str
) -> RowJob:
    wanted = {row.made_from for row in rows}
    made = context.adoptable(part_digest) if context.adoptable else {}
    adopted = {name: row for name, row in made.items() if name in wanted}
    return RowJob(part, rows, row_type, context.folder, adopted, context.retry_errors)


def _notes(context: UnitContext) -> dict[str, Any]:
    """What the part said of itself; of several workers' self-tests the widest spread counts."""
    known = notes_of(context.folder)
    return max(known, key=lambda note: note.get("self_test", {}).get("spread", 0.0), default={})


def _run(context: UnitContext, job: RowJob, what: str) -> None:
    """Run the job; too many failed rows stop the unit, with their commonest reasons."""
    assert context.executor is not None
    most = max(FEW_FAILED, math.floor(context.max_error_share * len(job.rows)))
    job = replace(job, max_failed=most)
    run_job(job, context.executor, context.where, context.progress, what)
    rows = answers_of(context.folder, job.row_type)
    reasons = Counter(_reason(row) for row in rows if failed(row))
    share = sum(reasons.values()) / max(1, len(job.rows))
    if share > context.max_error_share:
        common = "\n".join(f"  {n} x {reason}" for reason, n in reasons.most_common(3))
        raise TooManyErrorsError(
            f"{context.name}: {sum(reasons.values())} of {len(job.rows)} rows failed ({share:.1%}, "
            f"max_error_share is {context.max_error_share:.1%}). The commonest reasons:\n{common}\n"
            "All rows so far are kept. Mend the cause and run again with --retry-errors, "
            "or raise max_error_share in the recipe."
        )


def _reason(row: Any) -> str:
    return str(row.error if isinstance(row, Response) else row.reason)


def _sample_counts(context: UnitContext, job: RowJob, missing: int) -> dict[str, Any]:
    finish: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    by_domain: Counter[str] = Counter()
    for row, asked in zip(read_table(context.folder / "data", Response), job.rows, strict=True):
        finish[row.finish] += 1
        by_domain[asked.prompt.domain] += 1
        if row.error:
            errors[row.error] += 1
    return {
        "responses": len(job.rows),
        "by_domain": dict(by_domain),
        "finish": dict(finish),
        "errors": dict(errors.most_common(20)),
        "prompts_without_response": missing,
        "adopted": sum(row.made_from in job.adopted for row in job.rows),
    }


def _annotate_counts(
    context: UnitContext, job: RowJob, candidates: list[Candidate]
) -> dict[str, Any]:
    status: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    sources: dict[str, Counter[str]] = {}
    for row, asked in zip(read_table(context.folder / "data", Score), candidates, strict=True):
        status[row.status] += 1
        sources.setdefault(asked.response.source, Counter())[row.status] += 1
        if row.reason:
            reasons.setdefault(row.status, Counter())[row.reason] += 1
    return {
        "scores": len(candidates),
        "status": dict(status),
        "reasons": {name: dict(count.most_common(20)) for name, count in reasons.items()},
        "sources": {name: dict(count) for name, count in sources.items()},
        "adopted": sum(row.made_from in job.adopted for row in job.rows),
    }

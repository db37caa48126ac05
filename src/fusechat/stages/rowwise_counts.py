"""What a row-wise unit's manifest says of its rows, read column by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fusechat.executors.rows import failed, journaled
from fusechat.records import Record, Response
from fusechat.tables import read_columns, read_dicts, shards

MOST_SHOWN = 20


def failures(folder: Path, row_type: type[Record]) -> Counter[str]:
    """Reason -> failed rows, of all that a unit has on disk."""
    ending, reason = ("finish", "error") if row_type is Response else ("status", "reason")
    found: Counter[str] = Counter()
    for row in read_dicts(folder / "data", [ending, reason]):
        if row[ending] == "error":
            found[str(row[reason])] += 1
    for path in sorted((folder / "journal").glob("*.jsonl")):
        for kept in journaled(path, row_type):
            if failed(kept):
                found[str(getattr(kept, reason))] += 1
    return found


def sample_counts(folder: Path, prompts: Path) -> dict[str, Any]:
    """Responses by how they ended, by error, and by the domain of their prompt."""
    finish: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    by_domain: Counter[str] = Counter()
    domains = _domains(prompts)
    prompt_id, domain = "", ""
    for row in read_dicts(folder / "data", ["prompt_id", "finish", "error"]):
        finish[row["finish"]] += 1
        while row["prompt_id"] != prompt_id:
            prompt_id, domain = next(domains)
        by_domain[domain] += 1
        if row["error"]:
            errors[row["error"]] += 1
    return {
        "responses": finish.total(),
        "by_domain": dict(by_domain),
        "finish": dict(finish),
        "errors": dict(errors.most_common(MOST_SHOWN)),
    }


def served(notes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the workers of a source said of its servers: as they began, and their counts summed."""
    out: dict[str, Any] = {}
    totals: Counter[str] = Counter()
    for note in notes:
        totals.update(note.get("counts", {}))
        out |= {name: value for name, value in note.items() if name != "counts"}
    if totals:
        out["counts"] = dict(totals)
    return {"served": out} if out else {}


def _domains(prompts: Path) -> Iterator[tuple[str, str]]:
    for row in read_dicts(prompts, ["id", "domain"]):
        yield row["id"], row["domain"]


def annotate_counts(folder: Path, keys: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Scores by status, reason and source. `keys`: the responses that were to be judged, in order;
    the scores are in that order, some may be missing."""
    status: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    sources: dict[str, Counter[str]] = {}
    asked = iter(keys)
    for row in read_dicts(folder / "data", ["response_id", "status", "reason"]):
        key = next(asked)
        while key["id"] != row["response_id"]:
            key = next(asked)
        status[row["status"]] += 1
        sources.setdefault(key["source"], Counter())[row["status"]] += 1
        if row["reason"]:
            reasons.setdefault(row["status"], Counter())[row["reason"]] += 1
    return {
        "scores": status.total(),
        "status": dict(status),
        "reasons": {name: dict(count.most_common(MOST_SHOWN)) for name, count in reasons.items()},
        "sources": {name: dict(count) for name, count in sources.items()},
    }


def names_made(folder: Path) -> Iterator[list[str]]:
    """`made_from` of all rows of a unit's table, shard by shard."""
    for path in shards(folder / "data"):
        yield read_columns(path, ["made_from"])["made_from"].to_pylist()

"""How many rows of a plan are there, in its own units or to be adopted, and how many are to do."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from fusechat.files import read_json, read_jsonl
from fusechat.forecast.held import entry_of, requests_of
from fusechat.planner import Plan, Unit
from fusechat.records import Request
from fusechat.stages.entries import AnnotatorEntry
from fusechat.tables import read_dicts, shards
from fusechat.unit_folders import adoptable

LOOKED_UP = 5000
"""Rows whose adoption is looked up at a time."""


@dataclass
class Rows:
    """Rows of one sample or annotate unit, by domain."""

    wanted: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)
    ids: dict[str, str] = field(default_factory=dict)
    """Of the responses that are there -> their domain."""

    def to_do(self) -> dict[str, int]:
        """Domain -> rows that are still to be made."""
        return {name: max(0, n - self.there[name]) for name, n in self.wanted.items()}


def responses_to_do(plan: Plan, unit: Unit) -> Rows:
    """The rows of a source; its prompts must be there. Rows that can be adopted are there."""
    entry, folder = entry_of(plan, unit), plan.path(unit)
    own = {row["made_from"]: row["id"] for row in _kept(folder, ("made_from", "id"))}
    rows = Rows()
    with (
        tempfile.TemporaryDirectory() as place,
        adoptable(plan.workspace, Path(place), entry.part.digest()) as known,
    ):
        for chunk in _chunks(chain.from_iterable(requests_of(plan, unit))):
            names = {request.made_from for request in chunk} - own.keys()
            made = own | {n: getattr(row, "id", "") for n, row in known.find(names).items()}
            for request in chunk:
                domain = request.prompt.domain
                rows.wanted[domain] += 1
                if request.made_from in made:
                    rows.there[domain] += 1
                    rows.ids[made[request.made_from]] = domain
    return rows


def scores_to_do(plan: Plan, unit: Unit, sources: Mapping[str, Rows]) -> Rows:
    """The rows of an annotator: one for each response of the domains that it judges.

    A score is there where it is of a response that is there, and of the same part: rows of a
    source that was renamed count as to do, though they will be adopted.
    """
    entry: AnnotatorEntry = unit.settings
    rows, ids = Rows(), dict[str, str]()
    for name in unit.inputs:
        for domain, count in sources[name].wanted.items() if name in sources else ():
            if entry.judges(domain):
                rows.wanted[domain] += count
        if name in sources:
            ids |= sources[name].ids
    part = entry.part.digest()
    found: set[str] = set()
    for path in plan.workspace.rglob("unit.json"):
        if read_json(path).get("part") == part:
            for row in _kept(path.parent, ("response_id", "status")):
                if row["status"] != "error" or path.parent == plan.path(unit):
                    found.add(row["response_id"])
    rows.there = Counter(ids[one] for one in found & ids.keys() if ids[one] in rows.wanted)
    return rows


def _kept(folder: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Some columns of all rows of a unit, finished or in its journals."""
    if shards(folder / "data"):
        yield from read_dicts(folder / "data", columns)
    for path in sorted((folder / "journal").glob("[0-9]*.jsonl")):
        yield from (row for row in read_jsonl(path) if all(name in row for name in columns))


def _chunks(requests: Iterator[Request]) -> Iterator[list[Request]]:
    chunk: list[Request] = []
    for request in requests:
        chunk.append(request)
        if len(chunk) == LOOKED_UP:
            yield chunk
            chunk = []
    if chunk:
        yield chunk

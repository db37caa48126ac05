"""Responses and scores, counted: how they ended, by which source, and how each judge worked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from fusechat import tables

_SANDBOX = r'"sandbox":\s*"(?P<level>[^"\\]{1,40})"'


@dataclass(frozen=True)
class Unit:
    """One entry of the plan: its folder, and its manifest where it is done."""

    name: str
    folder: Path
    key: str
    manifest: Mapping[str, Any] | None

    @property
    def done(self) -> bool:
        """Whether it has a manifest."""
        return self.manifest is not None

    def table(self, name: str) -> Path | None:
        """The folder of one of its tables, None where there is none."""
        folder = self.folder / name
        return folder if self.done and folder.is_dir() else None


@dataclass(frozen=True)
class SourceRow:
    """The responses of one source: how many, how they ended, how long they are."""

    source: str
    finishes: Mapping[str, int]
    mean_tokens: float | None


@dataclass
class Judge:
    """What the units of one annotator did."""

    statuses: Counter[str] = field(default_factory=Counter)
    """Status -> scores."""
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(status, reason) of each score that is not ok -> scores."""
    sandbox: Counter[str] = field(default_factory=Counter)
    """Level of the sandbox -> programs that were run in it."""
    self_tests: list[Mapping[str, Any]] = field(default_factory=list)
    """What each unit's manifest says of the self-test at its start."""

    def see(self, unit: Unit, folder: Path) -> None:
        """Take in how one unit worked: its sandbox and its self-test."""
        self.sandbox.update(sandbox_levels(folder))
        found = ((unit.manifest or {}).get("counts") or {}).get("self_test")
        self.self_tests += [found] if isinstance(found, Mapping) else []


def sandbox_levels(folder: Path) -> Counter[str]:
    """Level -> scores whose details name it; nothing is parsed where the first details do not."""
    found: Counter[str] = Counter()
    for path in tables.shards(folder):
        details = pq.read_table(path, columns=["details"])["details"].drop_null()
        if not len(details):
            continue
        levels = pc.struct_field(pc.extract_regex(details, _SANDBOX), "level").drop_null()
        if not len(levels) and not found:
            break
        found.update({e["values"]: e["counts"] for e in pc.value_counts(levels).to_pylist()})
    return found


@dataclass(frozen=True)
class ScoreBox:
    """Scores of one source in one domain by one annotator; quantiles at 5, 25, 50, 75, 95%."""

    annotator: str
    domain: str
    source: str
    n: int
    mean: float
    quantiles: tuple[float, float, float, float, float]
    binary: bool


def responses_and_scores(units: Iterable[Unit], domains: Mapping[str, str]) -> dict[str, Any]:
    """The fields `responses`, `judges` and `boxes` of `Findings`."""
    places: dict[str, tuple[str, str]] = {}
    rows = []
    for unit in units:
        folder = unit.table("data")
        if unit.name.startswith("sample/") and folder is not None:
            rows.append(_source_row(unit.name.split("/", 1)[1], folder, domains, places))
    judges: dict[str, Judge] = {}
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for unit in units:
        folder = unit.table("data")
        if not unit.name.startswith("annotate/") or folder is None:
            continue
        name = unit.name.split("/", 1)[1].partition("@")[0]
        judge = judges.setdefault(name, Judge())
        judge.see(unit, folder)
        for row in tables.read_dicts(folder, ["response_id", "status", "value", "reason"]):
            judge.statuses[row["status"]] += 1
            if row["status"] == "ok":
                source, domain = places.get(row["response_id"], ("unknown", "unknown"))
                values[name, domain, source].append(row["value"])
            else:
                judge.reasons[row["status"], row["reason"]] += 1
    return {
        "responses": tuple(rows),
        "judges": judges,
        "boxes": tuple(_score_box(place, found) for place, found in values.items()),
    }


def _source_row(
    source: str, folder: Path, domains: Mapping[str, str], places: dict[str, tuple[str, str]]
) -> SourceRow:
    finishes: Counter[str] = Counter()
    tokens, counted = 0, 0
    for row in tables.read_dicts(folder, ["id", "prompt_id", "finish", "tokens"]):
        places[row["id"]] = (source, domains.get(row["prompt_id"], "unknown"))
        finishes[row["finish"]] += 1
        if row["tokens"] is not None and row["finish"] != "error":
            tokens, counted = tokens + row["tokens"], counted + 1
    return SourceRow(source, finishes, tokens / counted if counted else None)


def _score_box(place: tuple[str, str, str], values: list[float]) -> ScoreBox:
    annotator, domain, source = place
    return ScoreBox(
        annotator=annotator, domain=domain, source=source, n=len(values),
        mean=sum(values) / len(values), quantiles=quantiles(values),
        binary=all(value in (0.0, 1.0) for value in values),
    )  # fmt: skip


def quantiles(values: Iterable[float]) -> tuple[float, float, float, float, float]:
    """The 5, 25, 50, 75 and 95% quantiles, linear between neighbours; of at least one value."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    return at(0.05), at(0.25), at(0.5), at(0.75), at(0.95)

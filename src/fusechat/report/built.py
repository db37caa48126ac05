"""What the builds of a run made: rows by source, margins, dropped prompts, rows to read."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat import files, tables
from fusechat.records import Message
from fusechat.report.judged import Unit, quantiles

BUILDS = ("build", "build/on_policy")
"""The units that make training rows; the second one those of prompts that waited for a training."""
PAIRS_TO_READ = 10
ANALYSIS = 1
"""The format of analysis.json that is understood here; another one is left out."""
SIDES = (
    ("chosen", "chosen", "chosen"),
    ("source_chosen", "chosen", "chosen, of a source"),
    ("target_chosen", "chosen", "chosen, of the target"),
    ("rejected", "rejected", "rejected"),
)
"""Column of a row of pairs or triples -> the kind of side that it is, and its words."""


@dataclass(frozen=True)
class MarginBox:
    """Margins of the pairs of one source in one domain."""

    domain: str
    source: str
    n: int
    quantiles: tuple[float, float, float, float, float]


@dataclass(frozen=True)
class PairToRead:
    """A pair or a triple with its texts."""

    domain: str
    origin: str
    messages: tuple[Message, ...]
    sources: tuple[str, ...]
    sides: tuple[tuple[str, str, str, float | None], ...]
    """Of each response: `chosen` or `rejected`, that in words, its text, its score."""
    margin: float | None
    reason: str
    weight: float


def built(units: Iterable[Unit]) -> dict[str, Any]:
    """What `Findings` says of the builds that are done; nothing where the first is not."""
    builds = [unit for name in BUILDS for unit in units if unit.name == name and unit.done]
    if not builds or builds[0].name != BUILDS[0]:
        return {}
    chosen: dict[str, dict[str, Counter[str]]] = {"sft": {}, "dpo": {}}
    margins: dict[tuple[str, str], list[float]] = defaultdict(list)
    drops: Counter[tuple[str, str, str]] = Counter()
    pairs: list[PairToRead] = []
    for build in builds:
        for name, columns in (("sft", []), ("dpo", ["margin"])):
            folder = build.table(name)
            for row in tables.read_dicts(folder, ["domain", "source", *columns]) if folder else ():
                chosen[name].setdefault(row["domain"], Counter())[row["source"]] += 1
                if row.get("margin") is not None:
                    margins[row["domain"], row["source"]].append(row["margin"])
        drops += dropped([build.table("dropped")])
        pairs += pairs_to_read(build.table("dpo"))
    return {
        "built": True,
        "analysis": _analysis(builds),
        "chosen": chosen,
        "margins": tuple(
            MarginBox(domain, source, len(found), quantiles(found))
            for (domain, source), found in sorted(margins.items())
        ),
        "build_drops": drops,
        "pairs": tuple(pairs[:PAIRS_TO_READ]),
    }


def dropped(folders: Iterable[Path | None]) -> Counter[tuple[str, str, str]]:
    """(stage, domain, reason) -> rows of some tables of dropped prompts."""
    return Counter(
        (row["stage"], row["domain"], row["reason"])
        for folder in folders
        if folder is not None
        for row in tables.read_dicts(folder, ["stage", "domain", "reason"])
    )


def after_training(domain: str) -> str:
    """Name of a domain in the second build, where both have one."""
    return f"{domain} (on-policy)"


def _analysis(builds: Sequence[Unit]) -> Mapping[str, Any] | None:
    found = [of_format(build.folder / "analysis.json", ANALYSIS) for build in builds]
    if found[0] is None or len(found) == 1 or found[1] is None:
        return found[0]
    later = {after_training(name): one for name, one in found[1]["domains"].items()}
    return {
        **found[0],
        "sources": found[1]["sources"],
        "domains": {**found[0]["domains"], **later},
    }


def of_format(path: Path, wanted: int) -> Mapping[str, Any] | None:
    """A JSON file that says its format; None where it is not there, or of another one."""
    found = files.read_json(path) if path.exists() else None
    return found if isinstance(found, Mapping) and found.get("format") == wanted else None


def pairs_to_read(folder: Path | None) -> list[PairToRead]:
    """Ten rows, drawn by the digest of their ids, taking domains and sources in turn."""
    if folder is None:
        return []
    groups: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for number, row in enumerate(tables.read_dicts(folder)):
        names = "".join(str(row[f"{side}_id"]) for side, _, _ in SIDES if side in row)
        drawn = hashlib.sha256(names.encode()).hexdigest()
        groups[row["domain"], row["source"]].append((drawn, number))
    by_domain: dict[str, list[list[int]]] = defaultdict(list)
    for (domain, _), members in sorted(groups.items()):
        by_domain[domain].append([number for _, number in sorted(members)])
    in_turn = [_in_turn(lists) for _, lists in sorted(by_domain.items())]
    wanted = _in_turn(in_turn)[:PAIRS_TO_READ]
    rows = {n: row for n, row in enumerate(tables.read_dicts(folder)) if n in {*wanted}}
    return sorted((_to_read(rows[number]) for number in wanted), key=lambda pair: pair.domain)


def _to_read(row: Mapping[str, Any]) -> PairToRead:
    sides = [(side, kind, words) for side, kind, words in SIDES if side in row]
    sources = (row["source"], row.get("target_source") or row.get("rejected_source"))
    return PairToRead(
        domain=row["domain"],
        origin=row["origin"],
        messages=tuple(Message.model_validate(one) for one in row["messages"]),
        sources=tuple(dict.fromkeys(name for name in sources if name)),
        sides=tuple((kind, words, row[s], row[f"{s}_score"]) for s, kind, words in sides),
        margin=row["margin"],
        reason=row["reason"],
        weight=row["weight"],
    )


def _in_turn(lists: list[list[int]]) -> list[int]:
    longest = max(map(len, lists), default=0)
    return [found[i] for i in range(longest) for found in lists if i < len(found)]

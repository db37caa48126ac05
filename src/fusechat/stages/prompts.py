"""Reading prompt sets: exact de-duplication, stable ids, every unread row kept with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from fusechat.digests import digest
from fusechat.errors import EmptyError
from fusechat.parts import UnreadableRow
from fusechat.records import Dropped, Prompt
from fusechat.stages.context import UnitContext
from fusechat.stages.entries import PromptsEntry
from fusechat.stages.prompt_filters import HeldOutPrompts, topics_of
from fusechat.tables import write_table


def read_prompts(context: UnitContext) -> dict[str, Any]:
    """Read all prompt sets of the recipe, in its order, into one table.

    The same messages in two sets are one prompt: the first set wins, and the other rows are
    kept as dropped, with that reason.
    """
    entries: Mapping[str, PromptsEntry] = context.settings
    kept: dict[str, Prompt] = {}
    dropped: list[Dropped] = []
    counts: dict[str, Any] = {}
    for name, entry in entries.items():
        before = len(kept), len(dropped)
        _read_set(name, entry, context.seed, kept, dropped)
        reasons = Counter(row.reason for row in dropped[before[1] :])
        read = len(kept) - before[0] + sum(reasons.values())
        if reasons:
            told = f"{name}: {reasons.total()} of {read} rows dropped"
            context.progress.note(f"{told}: {_commonest(reasons)}")
        counts[name] = {
            "read": read,
            "kept": len(kept) - before[0],
            "dropped": dict(reasons),
        }
    write_table(context.folder / "prompts", kept.values(), Prompt)
    write_table(context.folder / "dropped", dropped, Dropped)
    if not kept:
        raise EmptyError(
            f"{context.name}: no prompt is left of {len(dropped)} rows read: "
            f"{_commonest(Counter(row.reason for row in dropped)) or 'the set is empty'}. Mend the "
            f"set or its columns; 'fusechat show {context.name} --dropped' tells each row's place."
        )
    domains = Counter(prompt.domain for prompt in kept.values())
    return {"sets": counts, "prompts": len(kept), "domains": dict(domains)}


def _commonest(reasons: Counter[str]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))


def _read_set(
    name: str, entry: PromptsEntry, seed: int, kept: dict[str, Prompt], dropped: list[Dropped]
) -> None:
    found: list[Prompt] = []
    here: set[str] = set()
    left_out = _filter(entry)
    for row in entry.part.prompts(entry.wanted_split()):
        if isinstance(row, UnreadableRow):
            details = json.dumps({"place": row.place}, ensure_ascii=False)
            dropped.append(_dropped(name, entry, stage="read", reason=row.reason, details=details))
            continue
        if row.id in kept or row.id in here:
            first = kept[row.id].origin if row.id in kept else name
            reason = f"same prompt as in {first}"
            dropped.append(_dropped(name, entry, row.id, stage="duplicate", reason=reason))
            continue
        here.add(row.id)
        if why := left_out(row):
            dropped.append(_dropped(name, entry, row.id, **why))
            continue
        found.append(_labelled(row, name, entry))
    for row in _take(found, entry.take, seed, name):
        kept[row.id] = row


Filter = Callable[[Prompt], dict[str, str] | None]
"""Stage, reason and perhaps details of a prompt that is left out; None where it is kept."""


def _filter(entry: PromptsEntry) -> Filter:
    settings = entry.decontaminate
    tests = None
    if settings is not None:
        known = (prompt for test in settings.against for prompt in test.prompts())
        tests = HeldOutPrompts(known, settings.ngram)

    def why(row: Prompt) -> dict[str, str] | None:
        if tests is not None and (shared := tests.shares(row)):
            details = json.dumps({"shared": shared[:300]}, ensure_ascii=False)
            reason = "shares words with a test prompt"
            return {"stage": "contamination", "reason": reason, "details": details}
        topics = topics_of(row) if entry.leave_out else ()
        topic = next((topic for topic in entry.leave_out if topic in topics), None)
        return None if topic is None else {"stage": "topic", "reason": f"about {topic}"}

    return why


def _labelled(row: Prompt, name: str, entry: PromptsEntry) -> Prompt:
    update: dict[str, Any] = {"origin": name, "domain": entry.domain or row.domain}
    if entry.licence:
        update["licence"] = entry.licence
    return row.model_copy(update=update)


def _take(rows: list[Prompt], count: int | None, seed: int, name: str) -> list[Prompt]:
    """A draw that only grows with `count`, so that more prompts keep those already sampled."""
    if count is None or count >= len(rows):
        return rows
    order = sorted(range(len(rows)), key=lambda i: digest([seed, name, rows[i].id]))
    return [rows[i] for i in sorted(order[:count])]


def _dropped(name: str, entry: PromptsEntry, prompt_id: str = "", **fields: Any) -> Dropped:
    domain = entry.wanted_domain() or ""
    return Dropped(prompt_id=prompt_id, origin=name, domain=domain, **fields)

"""Reading prompt sets: filters, de-duplication, stable ids; every row left out has its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusechat.digests import digest
from fusechat.errors import EmptyError
from fusechat.parts import UnreadableRow
from fusechat.records import Dropped, Prompt
from fusechat.stages.context import UnitContext
from fusechat.stages.entries import PromptsEntry
from fusechat.stages.prompt_filters import (
    HeldOutPrompts,
    Likeness,
    NearDuplicates,
    is_chinese,
    topics_of,
)
from fusechat.tables import write_table


def read_prompts(context: UnitContext) -> dict[str, Any]:
    """Read all prompt sets of the recipe, in its order, into one table.

    The same messages in two sets are one prompt: the first set wins, and the other rows are
    kept as dropped, with that reason; and so are near-duplicates, where an entry asks for that.
    The table `prompts` is the list of what was chosen.
    """
    entries: Mapping[str, PromptsEntry] = context.settings
    likeness = {wanted: Likeness(wanted) for e in entries.values() if (wanted := e.near_duplicates)}
    counts: dict[str, Any] = {}
    reading = _Reading(context.seed, likeness)
    kept, dropped = reading.kept, reading.dropped
    for name, entry in entries.items():
        before = len(kept), len(dropped)
        reading.take(entry, name, _read_set(name, entry, kept, dropped))
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
    more = {"uncompared": sum(k.uncompared for k in likeness.values())} if likeness else {}
    return {"sets": counts, "prompts": len(kept), "domains": dict(domains), **more}


def _commonest(reasons: Counter[str]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))


def _read_set(
    name: str, entry: PromptsEntry, kept: Mapping[str, Prompt], dropped: list[Dropped]
) -> list[Prompt]:
    """The prompts of a set that its filters leave, before near-duplicates and `take`."""
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
    return found


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
        missing = next((need for need in entry.requires if not getattr(row, need)), None)
        if missing is not None:
            return {"stage": "requires", "reason": f"no {missing}"}
        if entry.language == "zh" and not is_chinese(row):
            return {"stage": "language", "reason": "not Chinese text"}
        topics = topics_of(row) if entry.leave_out else ()
        topic = next((topic for topic in entry.leave_out if topic in topics), None)
        return None if topic is None else {"stage": "topic", "reason": f"about {topic}"}

    return why


def _labelled(row: Prompt, name: str, entry: PromptsEntry) -> Prompt:
    update: dict[str, Any] = {"origin": name, "domain": entry.domain or row.domain}
    if entry.licence:
        update["licence"] = entry.licence
    return row.model_copy(update=update)


def draw_order(seed: int, name: str, ids: Sequence[str]) -> list[int]:
    """Places of a set's prompts in the order in which they are drawn; `take` is the first ones."""
    return sorted(range(len(ids)), key=lambda i: digest([seed, name, ids[i]]))


@dataclass
class _Reading:
    """What was read of the sets so far."""

    seed: int
    likeness: Mapping[NearDuplicates, Likeness]
    kept: dict[str, Prompt] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)

    def take(self, entry: PromptsEntry, name: str, found: list[Prompt]) -> None:
        """Keep what a set's entry wants of the prompts that its filters left, in their order.

        A draw that only grows with `take`, so that more prompts keep those already sampled:
        prompts are tried in the order drawn, and one that is like an earlier one makes room for
        the next.
        """
        wanted = len(found) if entry.take is None else min(entry.take, len(found))
        order = list(range(len(found)))
        if wanted < len(found):
            order = draw_order(self.seed, name, [row.id for row in found])
        taken = order[:wanted]
        if entry.near_duplicates is not None:
            taken = self._unlike(entry, [found[i] for i in order], order, wanted)
        chosen = [found[i] for i in sorted(taken)]
        self.kept.update((row.id, row) for row in chosen)
        for known in self.likeness.values():
            known.keep(chosen)

    def _unlike(
        self, entry: PromptsEntry, rows: list[Prompt], order: list[int], wanted: int
    ) -> list[int]:
        """The first `wanted` of `order` that are like no earlier one; drops those that are."""
        assert entry.near_duplicates is not None
        likeness, tried = self.likeness[entry.near_duplicates], wanted
        while True:
            alike = likeness.like_earlier(rows[:tried])
            left = [at for at in range(tried) if rows[at].id not in alike]
            if len(left) >= wanted or tried == len(rows):
                break
            tried = min(len(rows), tried + 10 + 2 * (wanted - len(left)))
        last = left[wanted - 1] if 0 < wanted <= len(left) else tried
        origins = {row.id: row.origin for row in (*self.kept.values(), *rows[:tried])}
        for row in rows[:last]:
            if row.id in alike:
                other, jaccard = alike[row.id]
                details = json.dumps({"prompt_id": other, "jaccard": round(jaccard, 4)})
                why = {"reason": f"nearly a prompt of {origins[other]}", "details": details}
                self.dropped.append(
                    _dropped(row.origin, entry, row.id, stage="near_duplicate", **why)
                )
        return [order[at] for at in left[:wanted]]


def _dropped(name: str, entry: PromptsEntry, prompt_id: str = "", **fields: Any) -> Dropped:
    domain = entry.wanted_domain() or ""
    return Dropped(prompt_id=prompt_id, origin=name, domain=domain, **fields)

"""Small judged pools in memory, decided and analysed as a build does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fusechat.groups import Group, Groups, Judged, Seen
from fusechat.stages.analysis import Analysis
from fusechat.stages.build_settings import BuildSettings
from fusechat.stages.decisions import Collector, Decisions, decide
from fusechat.stages.groups import PromptTable

Row = Mapping[str, Any]
"""Scores of a response by annotator, and `text`, `finish`, `tokens` if wanted."""


class Pool:
    """Prompts with their responses; every prompt names all `sources`."""

    def __init__(self, *sources: str) -> None:
        self.sources = sources
        self.groups: list[Group] = []
        self.origins: list[str] = []

    def add(self, domain: str, origin: str = "set", **sources: Sequence[Row]) -> str:
        """One prompt; returns its id."""
        prompt_id = f"p{len(self.groups)}"
        seen = [
            one_response(prompt_id, source, index, row)
            for source, rows in sources.items()
            for index, row in enumerate(rows)
        ]
        self.groups.append(Group(prompt_id, domain, self.sources, tuple(seen)))
        self.origins.append(origin)
        return prompt_id

    def table(self) -> PromptTable:
        """The prompt table."""
        domains, domain = _coded([group.domain for group in self.groups])
        origins, origin = _coded(self.origins)
        ids = pa.array([group.prompt_id for group in self.groups], pa.string())
        return PromptTable(ids, domain, domains, origin, origins)

    def analysed(
        self, rules: Mapping[str, Any], block: int = 1000
    ) -> tuple[dict[str, Any], Decisions]:
        """What analysis.json would hold, and the decisions; `block`: prompts seen at a time."""
        settings, table = BuildSettings.model_validate(rules), self.table()
        analysis = Analysis(settings, table, self.sources)
        collector = Collector(table, self.sources)
        for first in range(0, len(self.groups), block):
            for domain, rule in settings.domains.items():
                members = [
                    number
                    for number in range(first, min(first + block, len(self.groups)))
                    if self.groups[number].domain == domain
                ]
                if members:
                    groups = columns([self.groups[number] for number in members])
                    some = groups.take(range(len(members)), rule.sources)
                    picked = decide(some, np.array(members), domain, rule)
                    analysis.see(picked)
                    collector.add(picked)
        decisions = collector.placed(settings)
        return analysis.report(decisions), decisions


def columns(groups: Sequence[Group]) -> Groups:
    """As columns, with those that say where a response stands."""
    found = Groups.of(groups)
    nowhere = np.zeros(len(found), np.int32)
    place = {"file": nowhere, "row": np.arange(len(found), dtype=np.int32)}
    return Groups(
        found.prompt_ids, found.domains, found.sources, {**found.columns, **place}, found.starts,
        found.judgements,
    )  # fmt: skip


def one_response(prompt_id: str, source: str, index: int, row: Row) -> Seen:
    """A number is a score, a word the status of a missing one."""
    scores = dict(row)
    finish, text = scores.pop("finish", "stop"), scores.pop("text", f"{source}{index}")
    tokens = scores.pop("tokens", None)
    return Seen(
        response_id=f"{prompt_id}-{source}-{index}",
        source=source,
        index=index,
        finish=finish,
        whole=finish in ("stop", "unknown") and bool(text),
        text_digest=text,
        tokens=tokens,
        scores={name: _judged(value) for name, value in scores.items()},
    )


def _judged(value: Any) -> Judged:
    return Judged(value, None, "why") if isinstance(value, str) else Judged("ok", float(value))


def _coded(names: Sequence[str]) -> tuple[tuple[str, ...], Any]:
    known = tuple(dict.fromkeys(names))
    return known, np.array([known.index(name) for name in names], np.int32)


WINDOW = {"min_margin": 0.01, "max_margin": 0.1}
BEST = {"use": "best_of", "by": "rm"}
CHAT = {
    "split": {"rule": "filter_then_share", "sft_share": 0.4},
    "sft": BEST,
    "dpo": {"use": "same_source_margin", "by": "rm", **WINDOW},
}
MATH = {
    "split": {"rule": "pair_else_sft"},
    "sft": {**BEST, "correct_by": "ok"},
    "dpo": {"use": "correct_over_incorrect", "by": "rm", "correct_by": "ok", **WINDOW},
}

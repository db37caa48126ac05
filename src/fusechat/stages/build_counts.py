"""The counts of a build's manifest: what went where, and why. `analysis.json` says more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from fusechat.groups import ABSENT, FINISHES, STATUSES, Array
from fusechat.stages.build_settings import BuildSettings
from fusechat.stages.decisions import CONTAMINATED, UNRULED, Decisions, Picked
from fusechat.stages.funnel_windows import Windows
from fusechat.stages.split import BLAMED
from fusechat.stages.windows import windowed


class Counts:
    """Collects what only the groups show, then counts the decisions."""

    def __init__(self, settings: BuildSettings) -> None:
        self._settings = settings
        self._judged: dict[str, Counter[str]] = defaultdict(Counter)

    def see(self, picked: Picked) -> None:
        """Take in the responses to some prompts."""
        count = self._judged[picked.domain]
        whole, finish = (picked.groups.columns[name] for name in ("whole", "finish"))
        count["whole"] += int(whole.sum())
        for word, name in (("length", "cut"), ("error", "failed")):
            count[name] += int((~whole & (finish == FINISHES.index(word))).sum())
        left = ~whole & ~np.isin(finish, [FINISHES.index(word) for word in ("length", "error")])
        count["empty"] += int(left.sum())
        judged = picked.groups.judgements
        for name in self._settings.domains[picked.domain].annotators():
            if name not in judged:
                count["no score"] += len(whole)
                continue
            status = judged[name].status
            count["no score"] += int((status < 0).sum())
            for code, word in enumerate(STATUSES):
                count[word] += int((status == code).sum())

    def report(
        self, decisions: Decisions, analysis: Mapping[str, Any], reserve: Collection[str] = ()
    ) -> dict[str, Any]:
        """The counts for the manifest; `analysis`: as `Analysis.report` gives it. `reserve`:
        domains whose DPO prompts were set apart."""
        prompts, among = decisions.prompts, decisions.among
        known = dict.fromkeys([*self._settings.domains, *prompts.domains])
        if not among.all():
            known = dict.fromkeys(self._settings.domains)
        domains = {domain: self._domain(domain, decisions) for domain in known}
        for domain in reserve:
            domains[domain]["reserved"] = domains[domain]["dpo_prompts"]
        totals = {
            "sft": sum(d["sft"] for d in domains.values()),
            "dpo": sum(d["dpo"] for d in domains.values()),
            "dropped": sum(sum(d["dropped"].values()) for d in domains.values()),
        }
        windows = {
            domain: _window(
                analysis["domains"].get(domain, {}).get("windows") or Windows(strategy, ()).report()
            )
            for domain, strategy in windowed(self._settings).items()
        }
        return {"prompts": int(among.sum()), **totals, "domains": domains, "window": windows}

    def _domain(self, domain: str, decisions: Decisions) -> dict[str, Any]:
        prompts = decisions.prompts
        code = prompts.domains.index(domain) if domain in prompts.domains else -1
        members = (prompts.domain == code) & decisions.among
        judged = self._judged[domain]
        origins = [
            n for n in range(len(prompts.origins)) if (members & (prompts.origin == n)).any()
        ]
        return {
            **_outcome(decisions, members),
            "origins": {
                prompts.origins[n]: _outcome(decisions, members & (prompts.origin == n))
                for n in origins
            },
            "sft_sources": _sources(decisions, members, "sft"),
            "dpo_sources": _sources(decisions, members, "dpo"),
            "refused": {
                table: _refusals(decisions, members, table)
                for table in ("sft", "dpo")
                if (decisions.refusal[table][members] != ABSENT).any()
            },
            "responses": {name: judged[name] for name in ("whole", "cut", "empty", "failed")},
            "unscorable": judged["unscorable"],
            "errors": judged["error"],
            "no_score": judged["no score"],
        }


def _window(found: Mapping[str, Any]) -> dict[str, Any]:
    """Prompts with a pair under this window and wider ones, and quantiles of the gap that each
    prompt's best source has."""
    names = ("min_margin", "max_margin", "without_min", "without_max", "without_window")
    return {
        **{name: found[name] for name in names},
        "pairs": found["kept"],
        "gap_quantiles": found["quantiles"],
    }


def _outcome(decisions: Decisions, members: Array) -> dict[str, Any]:
    placed = decisions.placed
    sft, dpo = members & placed.sft, members & placed.dpo
    return {
        "prompts": int(members.sum()),
        "sft": int(_rows(decisions, members, "sft").sum()),
        "dpo": int(_rows(decisions, members, "dpo").sum()),
        "sft_prompts": int(sft.sum()),
        "dpo_prompts": int(dpo.sum()),
        "in_both": int((sft & dpo).sum()),
        "dropped": _dropped(decisions, members & ~placed.sft & ~placed.dpo),
    }


def _dropped(decisions: Decisions, gone: Array) -> dict[str, int]:
    """Reason -> prompts, the commonest first; as `Decisions.drop_reason` says it of each."""
    contaminated = gone & decisions.contaminated
    found: Counter[str] = Counter({CONTAMINATED: int(contaminated.sum())})
    for code, table in enumerate(BLAMED):
        blamed = gone & ~contaminated & (decisions.placed.blame == code)
        said = decisions.refusal[table][blamed] if table else np.full(blamed.sum(), ABSENT)
        for refusal, count in zip(*np.unique(said, return_counts=True), strict=True):
            found[decisions.refusals[refusal] if refusal >= 0 else UNRULED] += int(count)
    return {reason: count for reason, count in found.most_common() if count}


def _rows(decisions: Decisions, members: Array, table: str) -> Array:
    placed: Array = getattr(decisions.placed, table) & members
    return placed[decisions.picks[table].prompt]


def _sources(decisions: Decisions, members: Array, table: str) -> dict[str, int]:
    rows = decisions.picks[table].source[_rows(decisions, members, table)]
    return dict(Counter(decisions.sources[code] for code in rows).most_common())


def _refusals(decisions: Decisions, members: Array, table: str) -> dict[str, int]:
    codes = decisions.refusal[table][members]
    return dict(Counter(decisions.refusals[code] for code in codes[codes >= 0]).most_common())

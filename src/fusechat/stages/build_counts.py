"""The numbers of a build: what went where and why, and what another window would have kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusechat.parts import Choice, Group, PairChoice, Refusal, Strategy
from fusechat.stages.build_settings import BuildSettings
from fusechat.stages.decisions import Decision, drop_reason
from fusechat.stages.groups import PromptKey

LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Quantiles of the gaps that are reported."""
_ENDS = ("min_margin", "max_margin")


class Counts:
    """Collects what only the groups show, then counts the decisions."""

    def __init__(self, settings: BuildSettings) -> None:
        self._settings = settings
        self._judged: dict[str, Counter[str]] = defaultdict(Counter)
        self._windows = {
            domain: Window(rule.dpo)
            for domain, rule in settings.domains.items()
            if rule.dpo is not None and "dpo" in rule.split.asks and _has_window(rule.dpo)
        }

    def see(self, group: Group, decision: Decision) -> None:
        """Take in one prompt's responses, and whether they gave a pair."""
        count = self._judged[group.domain]
        names = self._settings.domains[group.domain].annotators()
        for response in group.responses:
            cut = {"length": "cut", "error": "failed"}.get(response.finish, "empty")
            count["whole" if response.whole else cut] += 1
            for name in names:
                judged = response.scores.get(name)
                count["no score" if judged is None else judged.status] += 1
        if group.domain in self._windows:
            self._windows[group.domain].see(group, decision.gives("dpo"))

    def report(self, prompts: Sequence[PromptKey], decisions: Sequence[Decision]) -> dict[str, Any]:
        """The counts for the manifest."""
        by_domain: dict[str, list[tuple[PromptKey, Decision]]] = defaultdict(list)
        for key, decision in zip(prompts, decisions, strict=True):
            by_domain[key.domain].append((key, decision))
        domains = {
            domain: self._domain(domain, by_domain[domain])
            for domain in dict.fromkeys([*self._settings.domains, *by_domain])
        }
        totals = {
            "sft": sum(d["sft"] for d in domains.values()),
            "dpo": sum(d["dpo"] for d in domains.values()),
            "dropped": sum(sum(d["dropped"].values()) for d in domains.values()),
        }
        windows = {domain: window.report() for domain, window in self._windows.items()}
        return {"prompts": len(prompts), **totals, "domains": domains, "window": windows}

    def _domain(self, domain: str, members: Sequence[tuple[PromptKey, Decision]]) -> dict[str, Any]:
        decisions = [decision for _, decision in members]
        origins: dict[str, list[Decision]] = defaultdict(list)
        for key, decision in members:
            origins[key.origin].append(decision)
        judged = self._judged[domain]
        responses = ("whole", "cut", "empty", "failed")
        return {
            **_outcome(decisions),
            "origins": {origin: _outcome(found) for origin, found in origins.items()},
            "sft_sources": _sources(decisions, "sft"),
            "dpo_sources": _sources(decisions, "dpo"),
            "refused": {
                table: _refusals(decisions, table)
                for table in ("sft", "dpo")
                if any(table in decision.picks for decision in decisions)
            },
            "responses": {name: judged[name] for name in responses},
            "unscorable": judged["unscorable"],
            "errors": judged["error"],
            "no_score": judged["no score"],
        }


@dataclass
class Window:
    """What a strategy with a score window would give under other windows."""

    strategy: Strategy
    kept: Counter[str] = field(default_factory=Counter)
    gaps: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._variants = {
            "without_min": self.strategy.model_copy(update={"min_margin": None}),
            "without_max": self.strategy.model_copy(update={"max_margin": None}),
            "without_window": self.strategy.model_copy(update=dict.fromkeys(_ENDS)),
        }

    def see(self, group: Group, has_pair: bool) -> None:
        """Take in one prompt's responses, and whether they gave a pair inside the window.

        A wider window is taken to keep what this one keeps, so only the others are tried.
        """
        widest = self._variants["without_window"].select(group)
        self.kept["pairs"] += has_pair
        if isinstance(widest, Refusal):
            return
        first = widest[0]
        if isinstance(first, PairChoice) and first.margin is not None:
            self.gaps.append(first.margin)
        for name, strategy in self._variants.items():
            self.kept[name] += has_pair or not isinstance(strategy.select(group), Refusal)

    def report(self) -> dict[str, Any]:
        """Prompts with a pair under this and wider windows, and quantiles of the gap that each
        prompt's first source has where there is no window."""
        prompts = {name: self.kept[name] for name in ("pairs", *self._variants)}
        ends = {name: getattr(self.strategy, name) for name in _ENDS}
        return {**ends, **prompts, "gap_quantiles": quantiles(self.gaps)}


def quantiles(values: Iterable[float]) -> dict[str, float]:
    """Nearest-rank quantiles at `LEVELS`; empty where there are no values."""
    ranked = sorted(values)
    if not ranked:
        return {}
    return {f"{level:g}": ranked[round(level * (len(ranked) - 1))] for level in LEVELS}


def _has_window(strategy: Strategy) -> bool:
    fields = type(strategy).model_fields
    set_here = any(getattr(strategy, end, None) is not None for end in _ENDS)
    return (
        set_here
        and getattr(strategy, "by", None) is not None
        and all(end in fields for end in _ENDS)
    )


def _outcome(decisions: Sequence[Decision]) -> dict[str, Any]:
    dropped = Counter(drop_reason(d)[1] for d in decisions if not (d.place.sft or d.place.dpo))
    return {
        "prompts": len(decisions),
        "sft": sum(_rows(d, "sft") for d in decisions),
        "dpo": sum(_rows(d, "dpo") for d in decisions),
        "sft_prompts": sum(d.place.sft for d in decisions),
        "dpo_prompts": sum(d.place.dpo for d in decisions),
        "in_both": sum(d.place.sft and d.place.dpo for d in decisions),
        "dropped": dict(dropped.most_common()),
    }


def _rows(decision: Decision, table: str) -> int:
    picks = decision.picks.get(table)
    placed = getattr(decision.place, table)
    return 0 if not placed or picks is None or isinstance(picks, Refusal) else len(picks)


def _sources(decisions: Sequence[Decision], table: str) -> dict[str, int]:
    count: Counter[str] = Counter()
    for decision in decisions:
        if _rows(decision, table):
            picks = decision.picks[table]
            for pick in () if isinstance(picks, Refusal) else picks:
                first = pick.response_id if isinstance(pick, Choice) else pick.chosen_id
                count[decision.sources[first]] += 1
    return dict(count.most_common())


def _refusals(decisions: Sequence[Decision], table: str) -> dict[str, int]:
    reasons = Counter(
        picks.reason for d in decisions if isinstance(picks := d.picks.get(table), Refusal)
    )
    return dict(reasons.most_common())

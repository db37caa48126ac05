"""`analysis.json`: what a finished build says about itself, gathered while it decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from fusechat.stages.ablation import Ablation
from fusechat.stages.attribution import Wins
from fusechat.stages.attribution_numbers import Array
from fusechat.stages.attribution_parity import Parity, read_styles
from fusechat.stages.attribution_rewards import Rewards
from fusechat.stages.build_settings import BuildSettings, DomainRule
from fusechat.stages.decisions import Decisions, Picked
from fusechat.stages.funnel import WORDS, Funnel, unruled, words_of_all
from fusechat.stages.funnel_windows import Windows, has_window
from fusechat.stages.groups import PromptTable
from fusechat.stages.split import Placed

FORMAT = 1
"""Raised when the meaning or the place of a key changes."""
ANALYSIS_FILE = "analysis.json"
"""Its name in the folder of a build unit."""


class Analysis:
    """Sees what was picked, block by block, and reports when all is placed."""

    def __init__(
        self, settings: BuildSettings, prompts: PromptTable, sources: Sequence[str]
    ) -> None:
        self._settings, self._prompts, self._sources = settings, prompts, tuple(sources)
        self._domains: dict[str, _Domain] = {}

    def see(self, picked: Picked) -> None:
        """Take in one block of prompts of one domain."""
        name = picked.domain
        if name not in self._domains:
            rule = self._settings.domains[name]
            self._domains[name] = _Domain(rule, picked.groups.sources, self._prompts.origins)
        self._domains[name].see(picked, self._prompts.origin[picked.at])

    def gaps(self, domain: str) -> Array:
        """All gaps of a domain that were seen, float32; none where its strategy has no window."""
        windows = self._domains[domain].windows if domain in self._domains else None
        gaps = np.zeros(0, np.float32) if windows is None else windows.gaps()
        return gaps[~np.isnan(gaps)]

    def report(
        self,
        decisions: Decisions,
        folder: Path | None = None,
        windows: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """The content of `analysis.json`.

        `folder`: the build's, whose pairs are read for style. `windows`: domain -> how its window
        was given, where that was not in raw units.
        """
        styles = read_styles(folder / "dpo") if folder is not None else {}
        names = [name for name in self._settings.domains if name in self._prompts.domains]
        if decisions.among.all():
            names += [name for name in self._prompts.domains if name not in names]
        domains = {name: self._domain(name, decisions, styles.get(name, {})) for name in names}
        for name, note in (windows or {}).items():
            if name in domains:
                domains[name].setdefault("windows", {}).update(note)
        return {
            "format": FORMAT,
            "sources": list(self._sources),
            "words": [dict(vars(word)) for word in WORDS],
            "domains": _short(domains),
        }

    def _domain(self, name: str, decisions: Decisions, styles: Mapping[str, Any]) -> dict[str, Any]:
        if name in self._domains:
            return self._domains[name].report(name, decisions, styles)
        here = self._prompts.domain == self._prompts.domains.index(name)
        funnel = unruled(int(here.sum()))
        counts = np.bincount(self._prompts.origin[here], minlength=len(self._prompts.origins))
        sets = {o: unruled(int(n)) for o, n in zip(self._prompts.origins, counts, strict=True) if n}
        return {"rule": "", "funnel": {**funnel, "origins": sets}}


class _Domain:
    """All that is gathered of one domain."""

    def __init__(self, rule: DomainRule, sources: Sequence[str], origins: Sequence[str]) -> None:
        self._rule, self._sources = rule, tuple(sources)
        self._strategies = {t: s for t, s in rule.strategies().items() if t in rule.split.asks}
        self._at: list[Array] = []
        self._funnel = Funnel(sources, tuple(self._strategies), origins)
        dpo = self._strategies.get("dpo")
        self.windows = Windows(dpo, sources) if dpo is not None and has_window(dpo) else None
        named = [getattr(s, "correct_by", None) for s in self._strategies.values()]
        self._rewards = Rewards(sources, [name for name in named if name])
        self._wins = Wins(rule, sources, origins)
        self._parity = Parity(sources)
        self._ablation = Ablation(rule, sources)

    def see(self, picked: Picked, origin: Array) -> None:
        """Take in some prompts; `origin`: of each, position of its set."""
        groups, selections = picked.groups, picked.selections
        self._at.append(picked.at)
        self._funnel.see(origin, words_of_all(self._strategies, picked))
        if "dpo" in selections:
            self._parity.see(groups, selections["dpo"])
            if self.windows is not None:
                self.windows.see(selections["dpo"])
        self._rewards.see(groups)
        self._wins.see(groups, origin, selections)
        self._ablation.see(groups, selections)

    def report(self, name: str, decisions: Decisions, styles: Mapping[str, Any]) -> dict[str, Any]:
        at, prompts = np.concatenate(self._at), decisions.prompts
        placed = Placed(*(getattr(decisions.placed, c)[at] for c in ("sft", "dpo", "blame")))
        verdicts = self._rewards.verdicts
        ids = prompts.ids.take(pa.array(at))
        out: dict[str, Any] = {
            "rule": self._rule.split.rule,
            "sources": list(self._sources),
            "strategies": {
                table: {
                    "use": strategy.part_name(),
                    "by": getattr(strategy, "by", None),
                    "correct_by": getattr(strategy, "correct_by", None),
                    "mixes_sources": strategy.mixes_sources,
                }
                for table, strategy in self._strategies.items()
            },
            "funnel": self._funnel.report(placed),
            "attribution": self._wins.report(_rows(name, decisions), verdicts),
            **self._rewards.report(),
            "ablation": self._ablation.report(ids, prompts.origin[at], placed, verdicts),
        }
        if any(strategy.mixes_sources for strategy in self._strategies.values()):
            out["attribution"]["rejected"] = _rows(name, decisions, "other_source")["dpo"]
        if self.windows is not None:
            out["windows"] = self.windows.report()
        if (parity := self._parity.report(placed.dpo, styles)) is not None:
            out["parity"] = parity
        return out


def _rows(
    domain: str, decisions: Decisions, of: Literal["source", "other_source"] = "source"
) -> dict[str, dict[str, int]]:
    """Table -> source (of the rejected response: `other_source`) -> rows of the domain."""
    prompts = decisions.prompts
    here = prompts.domain == prompts.domains.index(domain)
    rows = {}
    for table, picks in decisions.picks.items():
        own = decisions.rows(table)
        found = getattr(picks, of)[own[here[picks.prompt[own]]]]
        counts = np.bincount(found[found >= 0], minlength=len(decisions.sources))
        rows[table] = {n: int(c) for n, c in zip(decisions.sources, counts, strict=True) if c}
    return rows


def _short(value: Any) -> Any:
    """Numbers to six digits, so that the file stays small."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _short(inner) for name, inner in value.items()}
    return [_short(inner) for inner in value] if isinstance(value, list) else value

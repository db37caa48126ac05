"""Whose responses win, where and against which, in one domain of a build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fusechat.groups import FINISHES, PICKED, Groups, Selection
from fusechat.stages.attribution_numbers import RIGHT, Array, Sample
from fusechat.stages.build_settings import DomainRule
from fusechat.stages.funnel import cells_of

ENDINGS = ("whole", "cut", "empty", "failed")


class Wins:
    """Picks of each source, duels between the sources, and what the responses are like."""

    def __init__(self, rule: DomainRule, sources: Sequence[str], origins: Sequence[str]) -> None:
        self._sources, self._origins = tuple(sources), tuple(origins)
        asked = {t: s for t, s in rule.strategies().items() if t in rule.split.asks}
        self._ranking = asked.get("sft", asked.get("dpo"))
        count, tables = len(self._sources), tuple(asked)
        self._picks = {t: np.zeros((len(origins), count), np.int64) for t in tables}
        self._only = {t: np.zeros(count, np.int64) for t in tables}
        self._duels = np.zeros((count, count, 3), np.int64)
        self._endings = np.zeros((count, len(ENDINGS)), np.int64)
        self._best = [Sample() for _ in self._sources]
        self._judged: dict[str, Array] = {}
        self._seen = np.zeros(len(origins), np.int64)

    def see(self, groups: Groups, origin: Array, selections: Mapping[str, Selection]) -> None:
        """Take in some prompts."""
        count = len(self._sources)
        self._seen += np.bincount(origin, minlength=len(self._seen))
        for table, said in selections.items():
            place = origin[said.prompt].astype(np.int64) * count
            place += groups.columns["source"][said.row]
            found = np.bincount(place, minlength=self._picks[table].size)
            self._picks[table] += found.reshape(-1, count)
            gives = said.by_source == PICKED
            self._only[table] += gives[gives.sum(axis=1) == 1].sum(axis=0)
        ranked = selections.get("sft", selections.get("dpo"))
        if ranked is not None and count:
            self._see_best(groups, ranked)
        self._see_responses(groups)

    def _see_best(self, groups: Groups, said: Selection) -> None:
        by, correct_by = (getattr(self._ranking, key, None) for key in ("by", "correct_by"))
        if by is None and correct_by not in groups.judgements:
            return
        strength = said.best if by is not None else shares_right(groups, str(correct_by))
        for one, other in combinations(range(len(self._sources)), 2):
            lead = strength[:, one] - strength[:, other]
            self._duels[one, other] += [(lead > 0).sum(), (lead < 0).sum(), (lead == 0).sum()]
        for place, sample in enumerate(self._best):
            sample.add(said.best[:, place][~np.isnan(said.best[:, place])])

    def _see_responses(self, groups: Groups) -> None:
        at, count = groups.columns, len(self._sources)
        ending = np.full(len(groups), ENDINGS.index("empty"))
        ending[at["finish"] == FINISHES.index("length")] = ENDINGS.index("cut")
        ending[at["finish"] == FINISHES.index("error")] = ENDINGS.index("failed")
        ending[at["whole"]] = ENDINGS.index("whole")
        flat = at["source"].astype(np.int64) * len(ENDINGS) + ending
        self._endings += np.bincount(flat, minlength=self._endings.size).reshape(count, -1)
        for name, found in groups.judgements.items():
            counts = self._judged.setdefault(name, np.zeros((2, count), np.int64))
            ok = found.status == 0
            counts[0] += np.bincount(at["source"][ok], minlength=count)
            counts[1] += np.bincount(at["source"][ok & (found.value >= RIGHT)], minlength=count)

    def report(
        self, rows: Mapping[str, Mapping[str, int]], verdicts: Sequence[str]
    ) -> dict[str, Any]:
        """`rows`: table -> source -> rows after the split; `verdicts`: who says what is right."""
        return {
            "picks": {t: self._named(found.sum(axis=0)) for t, found in self._picks.items()},
            "rows": {t: dict(rows.get(t, {})) for t in self._picks},
            "origins": {
                origin: {t: self._named(found[place]) for t, found in self._picks.items()}
                for place, origin in enumerate(self._origins)
                if self._seen[place]
            },
            "only": {t: self._named(found) for t, found in self._only.items()},
            "duels": self._report_duels(),
            "sources": {
                name: self._source(place, verdicts) for place, name in enumerate(self._sources)
            },
        }

    def _named(self, counts: Array) -> dict[str, int]:
        return {name: int(n) for name, n in zip(self._sources, counts, strict=True)}

    def _report_duels(self) -> dict[str, Any]:
        by, correct_by = (getattr(self._ranking, key, None) for key in ("by", "correct_by"))
        measure = "best score" if by else "share right" if correct_by else ""
        pairs = []
        for one, other in combinations(range(len(self._sources)), 2) if measure else ():
            won, lost, tied = (int(n) for n in self._duels[one, other])
            names = {"a": self._sources[one], "b": self._sources[other]}
            found = {"n": won + lost + tied, "a_wins": won, "b_wins": lost, "ties": tied}
            pairs.append({**names, **found})
        return {"measure": measure, "pairs": pairs}

    def _source(self, place: int, verdicts: Sequence[str]) -> dict[str, Any]:
        endings = {name: int(n) for name, n in zip(ENDINGS, self._endings[place], strict=True)}
        best = self._best[place]
        right = {
            name: {"judged": int(counts[0, place]), "right": int(counts[1, place])}
            for name, counts in self._judged.items()
            if name in verdicts
        }
        return {
            "responses": sum(endings.values()), **endings,
            "best": best.quantiles(), "mean_best": best.mean(), "right": right,
        }  # fmt: skip


def shares_right(groups: Groups, annotator: str) -> Array:
    """float64 `[prompts, sources]`: right responses over judged whole ones; nan where none is."""
    shape = (len(groups.prompt_ids), len(groups.sources))
    found = groups.judgements[annotator]
    usable = groups.columns["whole"] & (found.status == 0)
    cell, size = cells_of(groups), shape[0] * shape[1]
    judged = np.bincount(cell[usable], minlength=size)
    right = np.bincount(cell[usable & (found.value >= RIGHT)], minlength=size)
    shares = np.divide(right, judged, out=np.full(size, np.nan), where=judged > 0)
    return np.asarray(shares.reshape(shape))

"""What a build would give under other rules: only decided, and compared; nothing is written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusechat.stages.attribution_numbers import Array
from fusechat.stages.build_settings import BuildSettings, DomainRule
from fusechat.stages.decisions import Collector, Decisions, Picked, decide
from fusechat.stages.funnel import WORDS, words_of_all
from fusechat.stages.groups import PromptTable, Tables, blocks
from fusechat.stages.picks import Picks
from fusechat.stages.split import BLAMED
from fusechat.stages.windows import resolve, senseless, windowed

NOW = "now"
"""Name of the build as the recipe has it."""


def what_if(
    inputs: Mapping[str, Path],
    now: BuildSettings,
    variants: Mapping[str, BuildSettings],
    reserve: Mapping[str, Collection[str]] | None = None,
    among: Collection[str] | None = None,
) -> dict[str, Any]:
    """Yields of the build as it is and of each variant, domain by domain, and what would change.

    `inputs`: of the build unit, all finished; their tables are read once for all. `reserve`: name
    of a build -> domains whose DPO prompts it only sets apart. `among`: ids of the prompts that are
    looked at; None: all. Of domains
    whose rule no variant changes, only the names are given. Keys of the answer: `variants`
    (names, the present build first), `unchanged`, and `domains`: domain -> `yields` (variant
    -> numbers) and `changes` (variant -> how many prompts moved, and pairs that are others).
    """
    prompts = PromptTable.read(inputs["prompts"])
    builds = {NOW: now, **variants}
    known = dict.fromkeys(domain for build in builds.values() for domain in build.domains)
    changed = [
        domain
        for domain in known
        if any(v.domains.get(domain) != now.domains.get(domain) for v in variants.values())
        and domain in prompts.domains
    ]
    looked_at = _looked_at(prompts, among)
    deciding = {
        name: _Deciding(
            inputs, prompts, _only(build, changed), (reserve or {}).get(name, ()), looked_at
        )
        for name, build in builds.items()
    }
    if changed:
        _decide(inputs, changed, list(deciding.values()), looked_at)
    sides = {name: one.side() for name, one in deciding.items()}
    return {
        "variants": list(sides),
        "unchanged": [d for d in prompts.domains if d not in changed],
        "domains": {domain: _compare(domain, sides) for domain in changed},
    }


def _only(settings: BuildSettings, domains: Sequence[str]) -> BuildSettings:
    kept = {name: settings.domains[name] for name in domains if name in settings.domains}
    return BuildSettings.model_construct(root=kept)


def _looked_at(prompts: PromptTable, among: Collection[str] | None) -> Array:
    """Which prompts are looked at, bool `[prompts]`."""
    if among is None:
        return np.ones(len(prompts), np.bool_)
    wanted = pa.array(list(among), pa.string())
    found = pc.is_in(prompts.ids, value_set=wanted)
    return np.asarray(found.to_numpy(zero_copy_only=False))


def _decide(
    inputs: Mapping[str, Path],
    domains: Sequence[str],
    builds: Sequence[_Deciding],
    looked_at: Array,
) -> None:
    first = 0
    for groups in blocks(inputs):
        own = np.array(groups.domains, object)
        wanted = looked_at[first : first + len(own)]
        for domain in domains:
            members = np.flatnonzero((own == domain) & wanted)
            for build in builds if len(members) else ():
                rule = build.settings.domains.get(domain)
                if rule is not None:
                    some = groups.take(members, rule.used())
                    build.see(decide(some, members + first, domain, rule))
        first += len(groups.prompt_ids)


class _Deciding:
    """One build while the pool is read."""

    def __init__(
        self,
        inputs: Mapping[str, Path],
        prompts: PromptTable,
        settings: BuildSettings,
        reserve: Collection[str],
        among: Array,
    ) -> None:
        self.settings = resolve(inputs, settings)
        tables = Tables.of(inputs)
        gone = tables.contaminated(prompts)
        self._collector = Collector(prompts, tuple(tables.samples), contaminated=gone, among=among)
        self._reserve = [domain for domain in reserve if domain in self.settings.domains]
        self._words: dict[str, Array] = {
            table: np.zeros(len(prompts), np.int8) for table in BLAMED if table
        }
        self._gaps: dict[str, list[Array]] = {domain: [] for domain in windowed(self.settings)}

    def see(self, picked: Picked) -> None:
        """Take in what was picked from some prompts."""
        self._collector.add(picked)
        strategies = self.settings.domains[picked.domain].strategies()
        for table, found in words_of_all(strategies, picked).items():
            self._words[table][picked.at] = found.prompt
        if picked.domain in self._gaps:
            self._gaps[picked.domain].append(picked.selections["dpo"].gap.ravel())

    def side(self) -> Side:
        """The build, with each prompt placed."""
        windows = _windows(self.settings, self._gaps)
        decisions = self._collector.placed(self.settings, self._reserve)
        return Side(decisions, self._words, windows)


class Side:
    """One build, decided: its decisions, and each prompt's refusals in the funnel's words."""

    def __init__(
        self, decisions: Decisions, words: Mapping[str, Array], windows: Mapping[str, Any]
    ) -> None:
        self.decisions, self.words, self.windows = decisions, words, windows

    def numbers(self, domain: str, here: Array) -> dict[str, Any]:
        """The yield of a domain, whose prompts are `here` (bool `[prompts]`)."""
        placed = self.decisions.placed
        dropped = here & ~placed.sft & ~placed.dpo
        out: dict[str, Any] = {"prompts": int(here.sum()), "window": self.windows.get(domain)}
        for table in ("sft", "dpo"):
            rows = self.rows(table, here)
            counts = np.bincount(rows.source, minlength=len(self.decisions.sources))
            out[table] = len(rows)
            out[f"{table}_prompts"] = int((here & getattr(placed, table)).sum())
            out[f"{table}_sources"] = {
                name: int(n) for name, n in zip(self.decisions.sources, counts, strict=True) if n
            }
            if table == "dpo":
                known = rows.margin[~np.isnan(rows.margin)]
                out["median_margin"] = float(np.median(known)) if len(known) else None
        out["dropped"] = int(dropped.sum())
        out["dropped_words"] = self._why(dropped)
        return out

    def rows(self, table: str, here: Array) -> Picks:
        """The rows of a table of some prompts."""
        picks, own = self.decisions.picks[table], self.decisions.rows(table)
        return picks.take(own[here[picks.prompt[own]]])

    def place(self) -> Array:
        """Where each prompt went: position in `PLACES`."""
        placed = self.decisions.placed
        return placed.sft.astype(np.int8) + 2 * placed.dpo.astype(np.int8)

    def _why(self, dropped: Array) -> dict[str, int]:
        counts = np.zeros(len(WORDS), np.int64)
        blame = self.decisions.placed.blame
        for code, table in enumerate(BLAMED):
            if table:
                found = self.words[table][dropped & (blame == code)]
                counts += np.bincount(found[found >= 0], minlength=len(WORDS))
        unruled = int((dropped & (blame == 0)).sum())
        named = {word.word: int(n) for word, n in zip(WORDS, counts, strict=True)}
        named["no rule"] += unruled
        ranked = sorted(named.items(), key=lambda entry: -entry[1])
        return {word: n for word, n in ranked if n}


PLACES = ("dropped", "SFT", "DPO", "both")


def _windows(
    settings: BuildSettings, gaps: Mapping[str, Sequence[Array]]
) -> dict[str, dict[str, Any]]:
    """Domain -> its window in raw units, and why a build would refuse it (`fault`, or empty)."""
    found = {}
    for domain, strategy in windowed(settings).items():
        ends = {"min_margin": strategy.min_margin, "max_margin": strategy.max_margin}
        seen = np.concatenate([np.zeros(0), *gaps[domain]])
        fault = "" if strategy.allow_narrow_window else senseless(seen, *ends.values())
        found[domain] = {**ends, "fault": fault}
    return found


def _compare(domain: str, sides: Mapping[str, Side]) -> dict[str, Any]:
    prompts = sides[NOW].decisions.prompts
    here = prompts.domain == prompts.domains.index(domain)
    here &= sides[NOW].decisions.among
    return {
        "yields": {name: side.numbers(domain, here) for name, side in sides.items()},
        "changes": {
            name: _changes(sides[NOW], side, here) for name, side in sides.items() if name != NOW
        },
    }


def _changes(before: Side, after: Side, here: Array) -> dict[str, Any]:
    """How many prompts moved from where to where, and how many keep their place with other rows."""
    old, new = before.place()[here], after.place()[here]
    moves = np.bincount(old * len(PLACES) + new, minlength=len(PLACES) ** 2)
    moved = {
        f"{PLACES[code // len(PLACES)]} -> {PLACES[code % len(PLACES)]}": int(n)
        for code, n in enumerate(moves)
        if n and code // len(PLACES) != code % len(PLACES)
    }
    out: dict[str, Any] = {"moved": moved}
    for table in ("sft", "dpo"):
        both = [getattr(side.decisions.placed, table) for side in (before, after)]
        stay = here & both[0] & both[1]
        changed = _differing(before.rows(table, stay), after.rows(table, stay))
        out[f"{table}_in_both"], out[f"{table}_other"] = int(stay.sum()), changed
    return out


def _differing(one: Picks, other: Picks) -> int:
    """Prompts whose rows in two tables are not of the same responses."""
    both = [_identities(one), _identities(other)]
    rows, counts = np.unique(np.concatenate(both), axis=0, return_counts=True)
    return len(np.unique(rows[counts == 1, 0]))


def _identities(picks: Picks) -> Array:
    """`[picks, 10]`: the prompt, and where its responses stand."""
    columns = (
        picks.prompt, picks.source, *picks.place.T,
        picks.other_source, *np.where(picks.other_source >= 0, picks.other_place.T, -1),
        picks.second_source, *np.where(picks.second_source >= 0, picks.second_place.T, -1),
    )  # fmt: skip
    return np.stack([np.asarray(column, np.int64) for column in columns], axis=1)


def without_sources(
    settings: BuildSettings, kept: tuple[str, ...], always: tuple[str, ...] = ()
) -> BuildSettings:
    """The same rules with the responses of these sources only; `always`: those that stay where a
    rule names them."""
    rules = {
        name: rule.model_copy(update={"sources": _narrowed(rule, kept, always)})
        for name, rule in settings.domains.items()
    }
    return BuildSettings.model_construct(root=rules)


def _narrowed(
    rule: DomainRule, kept: tuple[str, ...], always: tuple[str, ...]
) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
    if isinstance(rule.sources, dict):
        named = {table: rule.sources.get(table, kept) for table in rule.strategies()}
        return {table: _both(names, (*kept, *always)) for table, names in named.items()}
    return kept if rule.sources is None else _both(rule.sources, (*kept, *always))


def _both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in one if name in other)

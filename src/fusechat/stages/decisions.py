"""What the strategies say of each prompt, and where the split rule puts it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fusechat.errors import PartError
from fusechat.groups import ABSENT, PICKED, Array, Groups, Selection
from fusechat.parts import Strategy
from fusechat.progress import Progress
from fusechat.records import RowType
from fusechat.stages.build_settings import EMITS, BuildSettings, DomainRule
from fusechat.stages.groups import PromptTable, blocks
from fusechat.stages.picks import Picks, Waiting, joined, part_of
from fusechat.stages.split import BLAMED, Items, Placed

UNRULED = "no build rule for this domain"
CONTAMINATED = "has words of a benchmark"
CHOICES: dict[RowType, str] = {
    "Demonstration": "Choice",
    "Pair": "PairChoice",
    "Triple": "TripleChoice",
}
"""What a strategy gives for each row type."""


@dataclass(frozen=True)
class Picked:
    """What the strategies of one domain say of some of its prompts."""

    domain: str
    groups: Groups
    """These prompts only, with the responses of the rule's sources only."""
    at: Array
    """`[prompts]`: position of each in the prompt table, int32."""
    selections: Mapping[str, Selection]
    """Table (`sft`, `dpo`) that the split rule asks for -> what its strategy says."""
    own: Mapping[str, tuple[Groups, Selection]]
    """The same over the sources of that table alone, with them: others where a rule names other
    sources for each table."""


def decide_all(
    inputs: Mapping[str, Path],
    settings: BuildSettings,
    progress: Progress | None = None,
    prompts: PromptTable | None = None,
    among: Array | None = None,
) -> Iterator[Picked]:
    """Let the strategies pick, some prompts at a time, in prompt-table order within a domain.

    `inputs`: of the build unit. Prompts of a domain without a rule are left out. `progress`
    is advanced by the prompts seen. `prompts`: their table, where it was read already. `among`:
    bool `[prompts]`, those that are decided; None: all. Raises `PartError` where a strategy
    breaks its contract.
    """
    first = 0
    for groups in blocks(inputs, prompts=prompts):
        count = len(groups.prompt_ids)
        domains = np.array(groups.domains, object)
        wanted = np.ones(count, np.bool_) if among is None else among[first : first + count]
        for domain, rule in settings.domains.items():
            members = np.flatnonzero((domains == domain) & wanted)
            if len(members):
                yield decide(groups.take(members, rule.used()), members + first, domain, rule)
        first += count
        if progress is not None:
            progress.advance(count)


def decide(groups: Groups, at: Array, domain: str, rule: DomainRule) -> Picked:
    """Let a domain's strategies pick from the responses to some of its prompts."""
    selections, found = {}, {}
    for table, strategy in rule.strategies().items():
        if table not in rule.split.asks:
            continue
        wanted = rule.sources_of(table)
        whole = wanted is None or {*groups.sources} <= {*wanted}
        own = groups if whole else groups.take(range(len(groups.prompt_ids)), wanted)
        said = strategy.select_all(own)
        check(strategy, own, said)
        found[table] = (own, said)
        selections[table] = said if whole else _among_all(said, own, groups)
    return Picked(domain, groups, at.astype(np.int32), selections, found)


def _among_all(said: Selection, own: Groups, groups: Groups) -> Selection:
    """What was said of some sources' responses, with rows and sources numbered as of all."""
    places = np.array([groups.sources.index(name) for name in own.sources], np.int64)
    rows = np.flatnonzero(np.isin(groups.columns["source"], places)).astype(np.int32)
    rows = np.append(rows, np.int32(-1))  # from the end: -1 stays -1

    def wide(values: Array, none: float) -> Array:
        out = np.full((len(values), len(groups.sources)), none, values.dtype)
        out[:, places] = values
        return out

    return replace(
        said,
        row=rows[said.row],
        other=rows[said.other],
        second=None if said.second is None else rows[said.second],
        by_source=wide(said.by_source, ABSENT),
        gap=wide(said.gap, np.nan),
        best=wide(said.best, np.nan),
    )


def check(strategy: Strategy, groups: Groups, said: Selection) -> None:
    """Raises `PartError` unless every pick is of whole responses of its own prompt."""
    name = f"the strategy '{strategy.part_name()}'"
    count = np.bincount(said.prompt, minlength=len(groups.prompt_ids))
    silent = np.flatnonzero((count == 0) & (said.refusal == PICKED))
    if len(silent):
        where = groups.prompt_ids[silent[0]]
        raise PartError(f"{name} gave nothing for prompt {where}; it must say why not.")
    both = np.flatnonzero((count > 0) & (said.refusal != PICKED))
    if len(both):
        where = groups.prompt_ids[both[0]]
        raise PartError(f"{name} both picked from and refused prompt {where}.")
    sides = _sides(name, strategy.emits, said)
    for rows in sides[:-1]:
        itself = np.flatnonzero(rows == sides[-1])
        if len(itself):
            where = groups.prompt_ids[said.prompt[itself[0]]]
            raise PartError(f"{name} paired a response with itself (prompt {where}).")
    for rows in sides:
        _check_rows(name, groups, said.prompt, rows)
    unfit = np.flatnonzero(~(np.isfinite(said.weights) & (said.weights >= 0)))
    if len(unfit):
        where, weight = groups.prompt_ids[said.prompt[unfit[0]]], said.weights[unfit[0]]
        raise PartError(f"{name} gave the weight {weight} (prompt {where}); it is 0 or more.")


def _sides(name: str, emits: RowType, said: Selection) -> tuple[Array, ...]:
    """The rows of each side of the picks, the rejected one last."""
    due, words = list(CHOICES).index(emits), list(CHOICES.values())
    given = np.where(said.seconds >= 0, 2, said.other >= 0)
    wrong = np.flatnonzero(given != due)
    if len(wrong):
        raise PartError(f"{name} gave {words[given[wrong[0]]]} where {words[due]} is due.")
    sides: tuple[tuple[Array, ...], ...] = (
        (said.row,), (said.row, said.other), (said.row, said.seconds, said.other)
    )  # fmt: skip
    return sides[due]


def _check_rows(name: str, groups: Groups, prompt: Array, rows: Array) -> None:
    known = (rows >= 0) & (rows < len(groups))
    safe = np.where(known, rows, 0)
    fit = np.zeros(len(rows), np.bool_)
    if len(groups):
        fit = known & groups.columns["whole"][safe] & (groups.columns["prompt"][safe] == prompt)
    bad = np.flatnonzero(~fit)
    if len(bad):
        row = int(rows[bad[0]])
        what = str(groups.columns["id"][row]) if known[bad[0]] else f"row {row}"
        raise PartError(
            f"{name} picked {what}, which is no whole response of prompt "
            f"{groups.prompt_ids[prompt[bad[0]]]}. "
            "Pick only from group.responses where .whole is true."
        )


@dataclass(frozen=True)
class Decisions:
    """What was decided about every prompt of a build; `[prompts]` each, in prompt-table order."""

    prompts: PromptTable
    sources: tuple[str, ...]
    """In recipe order."""
    picks: Mapping[str, Picks]
    """Table (`sft`, `dpo`) -> what its strategies picked from the prompts placed in it."""
    refusal: Mapping[str, Array]
    """Table -> position in `refusals`, int16; `PICKED`; or `ABSENT` where none was asked."""
    refusals: tuple[str, ...]
    placed: Placed
    contaminated: Array
    """Prompts that a benchmark has, bool; their responses were left out."""
    among: Array
    """Prompts that were decided about, bool; the others are another build's."""

    def gives(self, table: str) -> Array:
        """Whether the strategy of a table picked anything, bool."""
        return np.equal(self.refusal[table], PICKED)

    def dropped(self) -> Array:
        """Positions of the prompts that were decided about and are in neither table."""
        return np.flatnonzero(self.among & ~(self.placed.sft | self.placed.dpo))

    def drop_reason(self, at: int) -> tuple[str, str]:
        """Stage and reason of a dropped prompt."""
        if self.contaminated[at]:
            return "contamination", CONTAMINATED
        blamed = BLAMED[self.placed.blame[at]]
        code = int(self.refusal[blamed][at]) if blamed else ABSENT
        return (blamed, self.refusals[code]) if code >= 0 else ("split", UNRULED)

    def rows(self, table: str) -> Array:
        """Positions of the picks of a table that were placed in it."""
        return np.flatnonzero(getattr(self.placed, table)[self.picks[table].prompt])


class Collector:
    """Takes in what `decide_all` yields, and keeps what placing and writing need."""

    def __init__(
        self,
        prompts: PromptTable,
        sources: tuple[str, ...],
        folder: Path | None = None,
        contaminated: Array | None = None,
        among: Array | None = None,
    ) -> None:
        """`folder`: where picks wait until all are placed; the temporary one where not given.

        `contaminated`: which prompts are, bool `[prompts]`; none where not given. `among`: those
        that are decided about; all where not given.
        """
        self._prompts, self._sources = prompts, sources
        none = np.zeros(len(prompts), np.bool_)
        self._contaminated = none if contaminated is None else contaminated
        self._among = ~none if among is None else among
        self._words: dict[str, int] = {}
        self._reasons: dict[str, int] = {}
        self._parts = {table: Waiting(folder) for table in EMITS}
        self._refusal = {table: np.full(len(prompts), ABSENT, np.int16) for table in EMITS}

    def add(self, picked: Picked) -> None:
        """Take in what was picked from some prompts."""
        source_of = np.array([self._sources.index(s) for s in picked.groups.sources], np.int16)
        for table, said in picked.selections.items():
            known = [self._words.setdefault(word, len(self._words)) for word in said.refusals]
            codes = np.array([*known, ABSENT, PICKED], np.int16)  # from the end: -1, -2
            self._refusal[table][picked.at] = codes[said.refusal]
            whys = [self._reasons.setdefault(word, len(self._reasons)) for word in said.reasons]
            reason = np.array(whys, np.int16)[said.why]
            if len(said.row):
                self._parts[table].add(part_of(picked.groups, picked.at, said, source_of, reason))

    def placed(self, settings: BuildSettings, reserve: Collection[str] = ()) -> Decisions:
        """Everything decided, with each domain's split rule applied; the last call of all.

        `reserve`: domains whose DPO prompts are only set apart, for pairs that are made later.
        """
        can_pair = dict.fromkeys(reserve, ~self._contaminated)
        placed = place_all(self._prompts, self._refusal, settings, self._among, can_pair)
        reasons = tuple(self._reasons)
        picks = {}
        for table in EMITS:
            kept: Array = getattr(placed, table)
            waiting = self._parts.pop(table)
            parts = (part.take(kept[part.prompt]) for part in waiting)
            picks[table] = joined([part for part in parts if len(part)], reasons)
            waiting.close()
        return Decisions(
            prompts=self._prompts,
            sources=self._sources,
            picks=picks,
            refusal=self._refusal,
            refusals=tuple(self._words),
            placed=placed,
            contaminated=self._contaminated,
            among=self._among,
        )


def place_all(
    prompts: PromptTable,
    refusal: Mapping[str, Array],
    settings: BuildSettings,
    among: Array | None = None,
    can_pair: Mapping[str, Array] | None = None,
) -> Placed:
    """Apply each domain's split rule to its prompts.

    `refusal`: as of `Decisions`. `among`: bool `[prompts]`, those that are placed; None: all.
    `can_pair`: domain -> bool `[prompts]`, of domains whose pairs are made later: which of their
    prompts are taken to have one.
    """
    placed = Placed.nowhere(len(prompts))
    has_pair = refusal["dpo"] == PICKED
    for domain, rule in settings.domains.items():
        if domain not in prompts.domains:
            continue
        here = prompts.domain == prompts.domains.index(domain)
        at = np.flatnonzero(here if among is None else here & among)
        items = Items(
            prompts.names(at),
            prompts.origin[at],
            refusal["sft"][at] == PICKED,
            (can_pair or {}).get(domain, has_pair)[at],
        )
        placed.put(at, rule.split.place_all(items))
    return placed

"""What the strategies say of each prompt, and where the split rule puts it."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusechat.errors import PartError
from fusechat.groups import ABSENT, PICKED, Array, Groups, Selection
from fusechat.parts import Strategy
from fusechat.progress import Progress
from fusechat.stages.build_settings import EMITS, BuildSettings, DomainRule
from fusechat.stages.groups import PromptTable, blocks
from fusechat.stages.split import BLAMED, Items, Placed

UNRULED = "no build rule for this domain"
CONTAMINATED = "has words of a benchmark"


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


def decide_all(
    inputs: Mapping[str, Path],
    settings: BuildSettings,
    progress: Progress | None = None,
    prompts: PromptTable | None = None,
) -> Iterator[Picked]:
    """Let the strategies pick, some prompts at a time, in prompt-table order within a domain.

    `inputs`: of the build unit. Prompts of a domain without a rule are left out. `progress`
    is advanced by the prompts seen. `prompts`: their table, where it was read already. Raises
    `PartError` where a strategy breaks its contract.
    """
    first = 0
    for groups in blocks(inputs, prompts=prompts):
        domains = np.array(groups.domains, object)
        for domain, rule in settings.domains.items():
            members = np.flatnonzero(domains == domain)
            if len(members):
                yield decide(groups.take(members, rule.sources), members + first, domain, rule)
        first += len(groups.prompt_ids)
        if progress is not None:
            progress.advance(len(groups.prompt_ids))


def decide(groups: Groups, at: Array, domain: str, rule: DomainRule) -> Picked:
    """Let a domain's strategies pick from the responses to some of its prompts."""
    selections = {}
    for table, strategy in rule.strategies().items():
        if table in rule.split.asks:
            selections[table] = strategy.select_all(groups)
            check(strategy, table, groups, selections[table])
    return Picked(domain, groups, at.astype(np.int32), selections)


def check(strategy: Strategy, table: str, groups: Groups, said: Selection) -> None:
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
    pairs = EMITS[table] == "Pair"
    wrong = said.other < 0 if pairs else said.other >= 0
    if wrong.any():
        found, due = ("Choice", "PairChoice") if pairs else ("PairChoice", "Choice")
        raise PartError(f"{name} gave {found} where {due} is due.")
    itself = np.flatnonzero(said.row == said.other)
    if len(itself):
        where = groups.prompt_ids[said.prompt[itself[0]]]
        raise PartError(f"{name} paired a response with itself (prompt {where}).")
    for rows in (said.row, said.other) if pairs else (said.row,):
        _check_rows(name, groups, said.prompt, rows)


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
class Picks:
    """All picks for one table, in prompt-table order; `[picks]` each."""

    prompt: Array
    """Position in the prompt table, int32."""
    source: Array
    """Source of the response to imitate or of the chosen one, position in `sources`, int16."""
    place: Array
    """`[picks, 2]`, int32: shard of that source, and row in it, of that response."""
    other_source: Array
    """The same of the rejected response; -1 where there is none."""
    other_place: Array
    score: Array
    """float64, nan where there is none; so are the next two."""
    other_score: Array
    margin: Array
    why: Array
    """Position in `reasons`, int16."""
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompt)

    def take(self, at: Array | slice) -> Picks:
        """Those at some positions."""
        count = len(self.prompt[at])
        taken = {name: _taken(getattr(self, name), at, count) for name in _COLUMNS}
        return Picks(**taken, reasons=self.reasons)


_COLUMNS = tuple(name for name in Picks.__dataclass_fields__ if name != "reasons")


def _taken(values: Array, at: Array | slice, count: int) -> Array:
    """Those at `count` positions; one value that stands for all stays one."""
    if count and not values.strides[0]:
        return np.broadcast_to(values[:1], (count, *values.shape[1:]))
    return np.asarray(values[at])


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

    def gives(self, table: str) -> Array:
        """Whether the strategy of a table picked anything, bool."""
        return np.equal(self.refusal[table], PICKED)

    def dropped(self) -> Array:
        """Positions of the prompts that are in neither table."""
        return np.flatnonzero(~(self.placed.sft | self.placed.dpo))

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
    ) -> None:
        """`folder`: where picks wait until all are placed; the temporary one where not given.

        `contaminated`: which prompts are, bool `[prompts]`; none where not given.
        """
        self._prompts, self._sources = prompts, sources
        none = np.zeros(len(prompts), np.bool_)
        self._contaminated = none if contaminated is None else contaminated
        self._words: dict[str, int] = {}
        self._reasons: dict[str, int] = {}
        self._parts = {table: _Waiting(folder) for table in EMITS}
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
                self._parts[table].add(_part(picked, said, source_of, reason))

    def placed(self, settings: BuildSettings) -> Decisions:
        """Everything decided, with each domain's split rule applied; the last call of all."""
        placed = place_all(self._prompts, self._refusal, settings)
        reasons = tuple(self._reasons)
        picks = {}
        for table in EMITS:
            kept: Array = getattr(placed, table)
            waiting = self._parts.pop(table)
            parts = (part.take(kept[part.prompt]) for part in waiting)
            picks[table] = _joined([part for part in parts if len(part)], reasons)
            waiting.close()
        return Decisions(
            prompts=self._prompts,
            sources=self._sources,
            picks=picks,
            refusal=self._refusal,
            refusals=tuple(self._words),
            placed=placed,
            contaminated=self._contaminated,
        )


class _Waiting:
    """Picks that wait in a file without a name: a kill leaves nothing of it behind."""

    def __init__(self, folder: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by the finalizer
        self._parts = 0
        self.close = weakref.finalize(self, self._file.close)

    def add(self, picks: Picks) -> None:
        """Append some, at least one."""
        for name in _COLUMNS:
            values = getattr(picks, name)
            kept = values if values.strides[0] else values[:1]
            np.save(self._file, kept, allow_pickle=False)
        self._parts += 1

    def __iter__(self) -> Iterator[Picks]:
        """As they were added."""
        self._file.seek(0)
        for _ in range(self._parts):
            columns = {name: np.load(self._file, allow_pickle=False) for name in _COLUMNS}
            count = len(columns["prompt"])
            for name, values in columns.items():
                if len(values) < count:
                    columns[name] = np.broadcast_to(values, (count, *values.shape[1:]))
            yield Picks(**columns, reasons=())


def place_all(
    prompts: PromptTable, refusal: Mapping[str, Array], settings: BuildSettings
) -> Placed:
    """Apply each domain's split rule to its prompts; `refusal`: as of `Decisions`."""
    placed = Placed.nowhere(len(prompts))
    for domain, rule in settings.domains.items():
        if domain not in prompts.domains:
            continue
        at = np.flatnonzero(prompts.domain == prompts.domains.index(domain))
        items = Items(
            prompts.names(at),
            prompts.origin[at],
            refusal["sft"][at] == PICKED,
            refusal["dpo"][at] == PICKED,
        )
        placed.put(at, rule.split.place_all(items))
    return placed


def _part(picked: Picked, said: Selection, source_of: Array, why: Array) -> Picks:
    columns = picked.groups.columns

    def place(rows: Array) -> Array:
        return np.stack([columns["file"][rows], columns["row"][rows]], 1)

    none = said.other < 0
    other: tuple[Array, ...]
    if none.all():  # of a Demonstration: one value that stands for all, so that it needs no room
        nothing, unscored = np.full((1, 2), -1, np.int32), np.array([np.nan])
        values = (nothing[:, 0].astype(np.int16), nothing, unscored, unscored)
        other = tuple(np.broadcast_to(one, (len(none), *one.shape[1:])) for one in values)
    else:
        source = np.where(none, -1, source_of[columns["source"][said.other]]).astype(np.int16)
        other = (source, place(said.other), said.other_score, said.margin)
    return Picks(
        prompt=picked.at[said.prompt],
        source=source_of[columns["source"][said.row]],
        place=place(said.row),
        other_source=other[0],
        other_place=other[1],
        score=said.score,
        other_score=other[2],
        margin=other[3],
        why=why,
        reasons=(),
    )


def _joined(parts: list[Picks], reasons: tuple[str, ...]) -> Picks:
    """In prompt-table order. `parts` are taken apart, so that no second copy of all is needed."""
    columns = {name: [getattr(part, name) for part in parts or [_NONE]] for name in _COLUMNS}
    parts.clear()
    order = np.argsort(np.concatenate(columns["prompt"]), kind="stable").astype(np.int32)
    joined = {name: _in_order(columns.pop(name), order) for name in [*columns]}
    return Picks(**joined, reasons=reasons)


def _in_order(parts: Sequence[Array], order: Array) -> Array:
    if all(part.strides[0] == 0 for part in parts):
        return _taken(parts[0], order, len(order))
    return np.asarray(np.concatenate(parts)[order])


_NO_PLACE = np.zeros((0, 2), np.int32)
_NO_SCORE = np.zeros(0)
_NO_CODE = np.zeros(0, np.int16)
_NONE = Picks(
    np.zeros(0, np.int32), _NO_CODE, _NO_PLACE, _NO_CODE, _NO_PLACE, _NO_SCORE, _NO_SCORE,
    _NO_SCORE, _NO_CODE, (),
)  # fmt: skip

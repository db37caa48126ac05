"""The judged responses to prompts: of one prompt as rows, of many prompts as columns.

A strategy is defined on one prompt's `Group`; the same over many prompts at once, for
speed, is its `select_all` on `Groups`. Texts are never here, only their digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fusechat.errors import PartError
from fusechat.group_rows import Choice as Choice
from fusechat.group_rows import Group as Group
from fusechat.group_rows import Judged as Judged
from fusechat.group_rows import PairChoice as PairChoice
from fusechat.group_rows import Refusal as Refusal
from fusechat.group_rows import Seen as Seen
from fusechat.group_rows import TripleChoice as TripleChoice
from fusechat.records import Status

if TYPE_CHECKING:
    from fusechat.parts import Strategy

Array = np.ndarray[Any, Any]
STATUSES: tuple[Status, ...] = ("ok", "unscorable", "error")
FINISHES = ("stop", "length", "error", "unknown")
PICKED, ABSENT = -1, -2
"""In place of a refusal's number: it gives a pick; it has no response."""


@dataclass(frozen=True)
class Judgements:
    """One annotator's scores, aligned with the responses of a `Groups`; `[rows]` each."""

    status: Array
    """Position in `STATUSES`, int8; -1 where there is no score."""
    value: Array
    """float64; nan where the status is not ok."""
    reason: Array
    """Position in `reasons`, int32."""
    reasons: tuple[str, ...]

    def at(self, row: int) -> Judged | None:
        """The judgement of one response."""
        status = int(self.status[row])
        if status < 0:
            return None
        value = float(self.value[row]) if status == 0 else None
        return Judged(STATUSES[status], value, self.reasons[int(self.reason[row])])

    def take(self, rows: Array) -> Judgements:
        """Those of some rows."""
        return Judgements(self.status[rows], self.value[rows], self.reason[rows], self.reasons)


@dataclass(frozen=True)
class Groups:
    """The responses to some prompts as columns, sorted by prompt, source and sample index."""

    prompt_ids: tuple[str, ...]
    domains: tuple[str, ...]
    """Domain of each prompt."""
    sources: tuple[str, ...]
    """In recipe order."""
    columns: Mapping[str, Array]
    """`[rows]` each: `id` (object: text), `prompt` (int32, position in `prompt_ids`), `source`
    (int16, position in `sources`), `index` (int32), `finish` (int8, position in `FINISHES`),
    `whole` (bool), `digest` (S16, of the text), `tokens` (int32, -1: unknown). Readers may add
    columns of their own, which are carried along."""
    starts: Array
    """`[prompts + 1]`: rows `starts[p]` to `starts[p + 1]` belong to prompt `p`."""
    judgements: Mapping[str, Judgements]

    def __len__(self) -> int:
        return len(self.columns["id"])

    def group(self, prompt: int) -> Group:
        """The responses to one prompt, as rows."""
        rows = range(int(self.starts[prompt]), int(self.starts[prompt + 1]))
        seen = tuple(self.seen(row) for row in rows)
        return Group(self.prompt_ids[prompt], self.domains[prompt], self.sources, seen)

    def seen(self, row: int) -> Seen:
        """One response."""
        at = self.columns
        judged = {name: found.at(row) for name, found in self.judgements.items()}
        tokens = int(at["tokens"][row])
        return Seen(
            response_id=str(at["id"][row]),
            source=self.sources[at["source"][row]],
            index=int(at["index"][row]),
            finish=FINISHES[at["finish"][row]],
            whole=bool(at["whole"][row]),
            text_digest=at["digest"][row].decode(),
            tokens=None if tokens < 0 else tokens,
            scores={name: score for name, score in judged.items() if score is not None},
        )

    def take(self, prompts: Sequence[int] | Array, sources: Iterable[str] | None = None) -> Groups:
        """The groups of some prompts, in the order given, with the responses of `sources` only."""
        kept = (
            self.sources if sources is None else tuple(s for s in self.sources if s in {*sources})
        )
        renamed = np.full(len(self.sources) + 1, -1, np.int16)
        for place, name in enumerate(self.sources):
            renamed[place] = kept.index(name) if name in kept else -1
        at = np.asarray(prompts, np.int64)
        counts = self.starts[at + 1] - self.starts[at]
        owner = np.repeat(np.arange(len(at)), counts)
        first = np.repeat(self.starts[at] - np.cumsum(counts) + counts, counts)
        rows = first + np.arange(len(owner))
        wanted = renamed[self.columns["source"][rows]] >= 0
        rows, owner = rows[wanted], owner[wanted]
        columns = {name: values[rows] for name, values in self.columns.items()}
        columns["prompt"] = owner.astype(np.int32)
        columns["source"] = renamed[columns["source"]]
        return Groups(
            prompt_ids=tuple(self.prompt_ids[p] for p in at),
            domains=tuple(self.domains[p] for p in at),
            sources=kept,
            columns=columns,
            starts=np.searchsorted(owner, np.arange(len(at) + 1)),
            judgements={name: found.take(rows) for name, found in self.judgements.items()},
        )

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Groups:
        """The same as columns; all groups must name the same sources."""
        sources = groups[0].sources if groups else ()
        if any(group.sources != sources for group in groups):
            raise ValueError("groups of different sources cannot stand in one table of columns")
        place = {name: number for number, name in enumerate(sources)}
        found = [
            (number, place[r.source], r.index, r)
            for number, group in enumerate(groups)
            for r in group.responses
            if r.source in place
        ]
        found.sort(key=lambda entry: entry[:3])
        seen = [entry[3] for entry in found]
        columns = {
            "id": np.array([r.response_id for r in seen], object),
            "prompt": np.array([entry[0] for entry in found], np.int32),
            "source": np.array([entry[1] for entry in found], np.int16),
            "index": np.array([r.index for r in seen], np.int32),
            "finish": np.array([FINISHES.index(r.finish) for r in seen], np.int8),
            "whole": np.array([r.whole for r in seen], np.bool_),
            "digest": np.array([r.text_digest.encode() for r in seen], "S16"),
            "tokens": np.array([-1 if r.tokens is None else r.tokens for r in seen], np.int32),
        }
        names = dict.fromkeys(name for r in seen for name in r.scores)
        return cls(
            prompt_ids=tuple(group.prompt_id for group in groups),
            domains=tuple(group.domain for group in groups),
            sources=sources,
            columns=columns,
            starts=np.searchsorted(columns["prompt"], np.arange(len(groups) + 1)),
            judgements={name: _judgements([r.scores.get(name) for r in seen]) for name in names},
        )


def _judgements(found: Sequence[Judged | None]) -> Judgements:
    reasons = tuple(dict.fromkeys(j.reason for j in found if j is not None)) or ("",)
    return Judgements(
        status=np.array([-1 if j is None else STATUSES.index(j.status) for j in found], np.int8),
        value=np.array(
            [np.nan if j is None or j.value is None else j.value for j in found], np.float64
        ),
        reason=np.array([0 if j is None else reasons.index(j.reason) for j in found], np.int32),
        reasons=reasons,
    )


@dataclass(frozen=True)
class Selection:
    """What one strategy says of every prompt of some `Groups`, as columns.

    Of picks, sorted by prompt, `[picks]` each: `prompt` (int32), `row` (int32: the response to
    imitate, or the chosen one; of a triple the source's), `other` (int32: the rejected one; -1
    where the strategy picks single responses), `score`, `other_score`, `margin` (float64; nan:
    none), `why` (int16, position in `reasons`), and last `weight`, `second`, `second_score`. Of
    prompts, `[prompts]`: `refusal`. Of each source by itself, as
    `Strategy.of_source` says, `[prompts, sources]`: `by_source`, `gap`, `best`.
    """

    prompt: Array
    row: Array
    other: Array
    score: Array
    other_score: Array
    margin: Array
    why: Array
    reasons: tuple[str, ...]
    refusal: Array
    """int16, position in `refusals`; `PICKED` where there is a pick."""
    by_source: Array
    """int16, position in `refusals`; `PICKED`, or `ABSENT` where the source has no response."""
    gap: Array
    """float64: score of the source's best response minus that of the one to reject, also where a
    window refuses it; nan where there is none."""
    best: Array
    """float64: score of the source's best response that could be picked; nan where none."""
    refusals: tuple[str, ...]
    weight: Array | None = None
    """float64, what each row's loss is multiplied by; None: 1 for all."""
    second: Array | None = None
    """int32: of triples the better response of the target itself; None: there are none."""
    second_score: Array | None = None
    """float64, its score; nan: none."""

    @property
    def weights(self) -> Array:
        """Weight of each pick, float64."""
        return np.ones(len(self.row)) if self.weight is None else self.weight

    @property
    def seconds(self) -> Array:
        """`second` of each pick, int32; -1 where it is no triple."""
        return np.full(len(self.row), -1, np.int32) if self.second is None else self.second

    @property
    def second_scores(self) -> Array:
        """`second_score` of each pick, float64."""
        return np.full(len(self.row), np.nan) if self.second_score is None else self.second_score


class _Pick(NamedTuple):
    """One pick as positions; -1 in place of a response that it does not have."""

    prompt: int
    row: int
    second: int
    other: int
    score: float | None
    second_score: float | None
    other_score: float | None
    margin: float | None
    reason: str
    weight: float


def select_each(strategy: Strategy, groups: Groups) -> Selection:
    """What `strategy.select` says of each prompt, and `of_source` of each of its sources."""
    picks: list[_Pick] = []
    rows = {str(name): row for row, name in enumerate(groups.columns["id"])}
    words: dict[str, int] = {}
    shape = (len(groups.prompt_ids), len(groups.sources))
    refusal = np.full(shape[0], PICKED, np.int16)
    by_source = np.full(shape, ABSENT, np.int16)
    gap, best = np.full(shape, np.nan), np.full(shape, np.nan)
    for number in range(shape[0]):
        group = groups.group(number)
        said = _some(strategy, group, strategy.select(group))
        if isinstance(said, Refusal):
            refusal[number] = words.setdefault(said.reason, len(words))
        else:
            picks += [_pick(strategy, group, number, rows, pick) for pick in said]
        for place, source in enumerate(groups.sources):
            if all(r.source != source for r in group.responses):
                continue
            alone = _some(strategy, group, strategy.of_source(group, source))
            by_source[number, place] = (
                words.setdefault(alone.reason, len(words)) if isinstance(alone, Refusal) else PICKED
            )
            numbers = (
                alone.details.get("sources", {}).get(source, {})
                if isinstance(alone, Refusal)
                else _numbers(alone[0])
            )
            gap[number, place] = _number(numbers.get("gap"))
            best[number, place] = _number(numbers.get("best"))
    reasons = tuple(dict.fromkeys(pick.reason for pick in picks)) or ("",)
    return Selection(
        **_columns(picks),
        why=np.array([reasons.index(p.reason) for p in picks], np.int16),
        reasons=reasons,
        refusal=refusal,
        by_source=by_source,
        gap=gap,
        best=best,
        refusals=tuple(words),
    )


def _columns(picks: Sequence[_Pick]) -> dict[str, Any]:
    """The columns of a `Selection` that are of single picks."""
    places: dict[str, Any] = {
        name: np.array([getattr(pick, name) for pick in picks], np.int32)
        for name in ("prompt", "row", "second", "other")
    }
    numbers = {
        name: np.array([_number(getattr(pick, name)) for pick in picks], np.float64)
        for name in ("score", "second_score", "other_score", "margin")
    }
    weights = np.array([pick.weight for pick in picks], np.float64)
    found = places | numbers | {"weight": None if (weights == 1).all() else weights}
    if (places["second"] < 0).all():
        found |= {"second": None, "second_score": None}
    return found


Pick = Choice | PairChoice | TripleChoice
Said = Sequence[Choice] | Sequence[PairChoice] | Sequence[TripleChoice] | Refusal


def _some(strategy: Strategy, group: Group, said: Said) -> Said:
    if not isinstance(said, Refusal) and not said:
        raise PartError(
            f"the strategy '{strategy.part_name()}' gave nothing for prompt {group.prompt_id}; "
            "it must say why not."
        )
    return said


def ids_of(pick: Pick) -> tuple[str, ...]:
    """The responses of a pick, in the order of the sides of its row."""
    if isinstance(pick, Choice):
        return (pick.response_id,)
    if isinstance(pick, PairChoice):
        return (pick.chosen_id, pick.rejected_id)
    return (pick.source_chosen_id, pick.target_chosen_id, pick.rejected_id)


def _pick(
    strategy: Strategy, group: Group, number: int, rows: Mapping[str, int], pick: Pick
) -> _Pick:
    for response_id in ids_of(pick):
        if response_id not in rows:
            raise PartError(
                f"the strategy '{strategy.part_name()}' picked {response_id}, which is no whole "
                f"response of prompt {group.prompt_id}. "
                "Pick only from group.responses where .whole is true."
            )
    at = [rows[response_id] for response_id in ids_of(pick)]
    if isinstance(pick, Choice):
        return _Pick(number, at[0], -1, -1, pick.score, None, None, None, pick.reason, pick.weight)
    if isinstance(pick, PairChoice):
        return _Pick(
            number, at[0], -1, at[1], pick.chosen_score, None, pick.rejected_score, pick.margin,
            pick.reason, pick.weight,
        )  # fmt: skip
    return _Pick(
        number, at[0], at[1], at[2], pick.source_chosen_score, pick.target_chosen_score,
        pick.rejected_score, pick.margin, pick.reason, pick.weight,
    )  # fmt: skip


def _numbers(pick: Pick) -> dict[str, float | None]:
    if isinstance(pick, Choice):
        return {"best": pick.score}
    if isinstance(pick, PairChoice):
        return {"best": pick.chosen_score, "gap": pick.margin}
    return {"best": pick.source_chosen_score, "gap": pick.margin}


def _number(value: float | None) -> float:
    return np.nan if value is None else value

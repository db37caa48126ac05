"""Which rows of a step go through the model together, and how they are laid out without padding.

Pure functions of lengths and ids, in numpy. A *bin* is some whole rows of one optimizer step of at
most a budget of computed tokens; it goes through the model as one row of token ids. The texts of a
row (the responses of a pair with their prompt) may share one copy of what they begin with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusechat.packed.layout import Segment
from fusechat.training.examples import Example

Ints = NDArray[np.int64]


def shared_tokens(example: Example, share: bool) -> int:
    """How many ids one copy serves in this row: 0 where prompts are not shared."""
    return example.shared if share else 0


def computed_tokens(example: Example, shared: int) -> int:
    """Tokens that the model computes for a row whose texts share `shared` of them."""
    return shared + sum(len(text.ids) - shared for text in example.texts)


@dataclass(frozen=True)
class Totals:
    """Tokens that a data set costs, with and without one copy of what a row's texts share."""

    unshared: int
    shared: int

    @property
    def ratio(self) -> float:
        """How many times fewer tokens sharing computes; 1 or above."""
        return self.unshared / self.shared


def totals(examples: Sequence[Example]) -> Totals:
    """Both sums over all rows, at least one."""
    pairs = [(computed_tokens(e, 0), computed_tokens(e, e.shared)) for e in examples]
    return Totals(sum(one for one, _ in pairs), sum(other for _, other in pairs))


def cut_bins(
    costs: Sequence[int], budget: int, rank: int = 0, world: int = 1, equal: bool = False
) -> list[list[int]]:
    """This rank's bins of one step, as places in `costs`, the fullest first.

    `costs`: computed tokens of each row. Rows are dealt out so that ranks get like numbers of
    tokens (longest first, each to the rank with the fewest), then packed first-fit decreasing; a
    row above `budget` has its own bin. `equal`: every rank gets the same number of bins, some of
    them empty, as ranks that gather weights in each forward pass must have.
    """
    dealt = _deal(costs, world)
    own = _first_fit(costs, dealt[rank], budget)
    if equal:
        most = max(len(_first_fit(costs, rows, budget)) for rows in dealt)
        own += [[] for _ in range(most - len(own))]
    return own


def _longest_first(costs: Sequence[int]) -> list[int]:
    return sorted(range(len(costs)), key=lambda place: (-costs[place], place))


def _deal(costs: Sequence[int], world: int) -> list[list[int]]:
    if world == 1:
        return [_longest_first(costs)]
    dealt: list[list[int]] = [[] for _ in range(world)]
    loads = [0] * world
    for place in _longest_first(costs):
        least = loads.index(min(loads))
        dealt[least].append(place)
        loads[least] += costs[place]
    return dealt


def _first_fit(costs: Sequence[int], rows: Sequence[int], budget: int) -> list[list[int]]:
    """`rows`: the longest first."""
    bins: list[list[int]] = []
    room: list[int] = []
    for place in rows:
        cost = costs[place]
        fits = next((n for n, free in enumerate(room) if free >= cost), None)
        if fits is None:
            bins.append([])
            room.append(budget)
            fits = len(bins) - 1
        bins[fits].append(place)
        room[fits] -= cost
    return sorted(bins, key=lambda rows: -sum(costs[place] for place in rows))


@dataclass(frozen=True)
class Layout:
    """One bin as numpy arrays: `n` tokens, `p` response tokens, `t` texts.

    Texts are numbered like `Terms` wants them: the first side of all rows, then the second.
    """

    ids: Ints
    """`[n]`, without padding."""
    positions: Ints
    """`[n]`: place of each token in its own text, from 0."""
    segments: tuple[Segment, ...]
    """Which tokens see which; together they cover all `n`, in order."""
    predictors: Ints
    """`[p]` places whose hidden state predicts a response token. The last token of a shared
    prompt predicts the first token of several responses, so a place may stand here twice."""
    targets: Ints
    """`[p]` those response tokens."""
    text_of: Ints
    """`[p]` number of the text that each belongs to."""
    lengths: Ints
    """`[t]` response tokens of each text."""
    weights: NDArray[np.float64]
    """`[rows]`: what each row's loss is multiplied by."""


def lay_out(examples: Sequence[Example], shared: Sequence[int]) -> Layout:
    """The layout of some rows. `shared`: of each row, how many ids one copy serves.

    No rows at all give one token that predicts itself, for a forward pass that only keeps step
    with other ranks.
    """
    if not examples:
        zeros = np.zeros(1, dtype=np.int64)
        return Layout(
            ids=zeros, positions=zeros, segments=(Segment(0, 1),), predictors=zeros,
            targets=zeros, text_of=zeros, lengths=zeros + 1, weights=np.zeros(0),
        )  # fmt: skip
    row = _PackedRow([[] for _ in examples[0].texts])
    for example, same in zip(examples, shared, strict=True):
        row.add(example, same)
    texts = [example.texts[side] for side in range(len(row.predictors)) for example in examples]
    lengths = np.array([text.length for text in texts])
    sizes = np.array([len(piece) for piece in row.pieces])
    return Layout(
        ids=np.concatenate(row.pieces).astype(np.int64),
        positions=np.arange(row.end) - np.repeat(np.array(row.zeros), sizes),
        segments=tuple(row.segments),
        predictors=np.concatenate([points for side in row.predictors for points in side]),
        targets=np.concatenate([text.ids[text.start :] for text in texts]).astype(np.int64),
        text_of=np.repeat(np.arange(len(texts)), lengths),
        lengths=lengths,
        weights=np.array([example.weight for example in examples]),
    )


@dataclass
class _PackedRow:
    """A packed row that grows by whole rows of the data."""

    predictors: list[list[Ints]]
    """By side, of each row."""
    pieces: list[NDArray[np.int32]] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    zeros: list[int] = field(default_factory=list)
    """Of each piece, where token 0 of its text would stand if no other had it."""
    end: int = 0

    def add(self, example: Example, same: int) -> None:
        begin = self.end
        if same:
            self._append(example.texts[0].ids[:same], begin, (0, 0))
        for points, text in zip(self.predictors, example.texts, strict=True):
            zero = self.end - same
            if len(text.ids) > same:
                self._append(text.ids[same:], zero, (begin, begin + same) if same else (0, 0))
            places = np.arange(zero + text.start - 1, zero + len(text.ids) - 1)
            if text.start == same and len(places):
                places[0] = begin + same - 1
            points.append(places)

    def _append(self, ids: NDArray[np.int32], zero: int, prefix: tuple[int, int]) -> None:
        self.pieces.append(ids)
        self.zeros.append(zero)
        self.segments.append(Segment(self.end, self.end + len(ids), prefix))
        self.end += len(ids)

"""Which tokens of a packed row see which: pure functions of places, in numpy.

A *packed row* is many texts one after the other, without padding. It is cut into *segments*; a
segment may stand behind a *prefix*: tokens elsewhere in the row that it begins with, computed once
for all segments that share them (the prompt of a pair's two responses).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """Tokens `start:stop` of a packed row; each sees the prefix, and itself and its own before it.

    A token of a prefix stands at the place in its text that it has in the prefix, an own token
    behind all of the prefix.
    """

    start: int
    stop: int
    prefix: tuple[int, int] = (0, 0)
    """First token and end of what it shares; an empty range for nothing."""

    @property
    def length(self) -> int:
        """Own tokens."""
        return self.stop - self.start

    @property
    def shared(self) -> int:
        """Tokens of the prefix."""
        return self.prefix[1] - self.prefix[0]


@dataclass(frozen=True)
class Call:
    """Queries `start:stop` of a row against keys `begin:end`, in one piece of attention.

    Without a `window` a *causal* call lets query i see keys up to i (as many keys as queries),
    another one all keys. With one, query `start + i` and key `begin + j` are `gap + i - j` apart
    in their text, and see each other where that is at least 0 and less than `window`.
    """

    start: int
    stop: int
    begin: int
    end: int
    causal: bool
    window: int | None = None
    gap: int = 0


@dataclass(frozen=True)
class Calls:
    """All the attention of a packed row: every query in exactly one `own` call.

    The softmax of a query that is in a call of `before`, too (in at most one), is over the keys of
    both.
    """

    own: tuple[Call, ...]
    before: tuple[Call, ...]

    @cached_property
    def cuts(self) -> list[int]:
        """Queries of each own call; these stand in the order of the row."""
        return [call.stop - call.start for call in self.own]

    @cached_property
    def banded(self) -> bool:
        """Whether an own call has other keys than its queries, which a key may then share."""
        return not all(call.causal for call in self.own)


def check(segments: Sequence[Segment], tokens: int) -> None:
    """Raises `ValueError` unless the segments cover `tokens` in order and have sound prefixes."""
    place = 0
    roots = {s.start: s.stop for s in segments if s.shared == 0}
    for segment in segments:
        begin, end = segment.prefix
        if segment.start != place or segment.stop < place:
            raise ValueError(f"{segment} does not begin where the one before it ends: {place}")
        if end < begin or (end > begin and not end <= roots.get(begin, -1)):
            raise ValueError(f"the prefix of {segment} is not the beginning of a text in the row")
        place = segment.stop
    if place != tokens:
        raise ValueError(f"the segments cover {place} tokens of {tokens}")


def positions(segments: Sequence[Segment]) -> Ints:
    """Place of each token in its own text, counted from 0, `[tokens]`."""
    runs = [np.arange(s.shared, s.shared + s.length) for s in segments]
    return np.concatenate([np.zeros(0, dtype=np.int64), *runs])


def sees(segments: Sequence[Segment], window: int | None = None) -> NDArray[np.bool_]:
    """Whether a token (row) sees another (column), `[tokens, tokens]`: the definition itself.

    `window`: how many tokens back a token sees at most, itself counted; None: all.
    """
    place = positions(segments)
    seen = np.zeros((len(place), len(place)), dtype=np.bool_)
    for s in segments:
        seen[s.start : s.stop, s.prefix[0] : s.prefix[1]] = True
        seen[s.start : s.stop, s.start : s.stop] = np.tri(s.length, dtype=np.bool_)
    if window is not None:
        seen &= place[:, None] - place[None, :] < window
    return seen


def runs(segments: Sequence[Segment], window: int | None = None) -> Ints:
    """The two runs of a row that each token sees, `[3, tokens]`: begin and end of what it sees of
    its prefix, and begin of what it sees of its own segment, up to itself. `window`: see `sees`."""
    found = [np.zeros((3, 0), dtype=np.int64)]
    for s in segments:
        begin, own = np.full(s.length, s.prefix[0]), np.full(s.length, s.start)
        if window is not None:
            first = s.shared + np.arange(s.length) - window + 1  # in the text that it belongs to
            begin = np.minimum(begin + np.maximum(first, 0), s.prefix[1])
            own = own + np.maximum(first - s.shared, 0)
        found.append(np.stack([begin, np.full(s.length, s.prefix[1]), own]))
    return np.concatenate(found, 1)


def calls(segments: Sequence[Segment], window: int | None = None) -> Calls:
    """The attention of a row in as few calls as do no work that is thrown away.

    Segments side by side with the same prefix meet it in one call, since no query is masked there.
    With a `window` that is shorter than a text, its calls are cut into pieces of a window's size.
    """
    own: list[Call] = []
    before: list[Call] = []
    for s in segments:
        if s.length == 0:
            continue
        wide = window is None or s.shared + s.length <= window
        own += [Call(s.start, s.stop, s.start, s.stop, True)] if wide else _banded(s, window or 0)
        if s.shared and not wide:
            before += _looking_back(s, window or 0)
        elif s.shared:
            before = _joined(before, Call(s.start, s.stop, *s.prefix, False))
    return Calls(tuple(own), tuple(before))


def _joined(before: list[Call], call: Call) -> list[Call]:
    last = before[-1] if before else None
    same = last is not None and last.window is None
    if last is None or not same or (last.stop, last.begin, last.end) != (
        call.start, call.begin, call.end,
    ):  # fmt: skip
        return [*before, call]
    return [*before[:-1], Call(last.start, call.stop, call.begin, call.end, False)]


def _banded(s: Segment, window: int) -> list[Call]:
    """A segment's own tokens, `window` queries at a time, each with the keys that they can see."""
    found = [
        Call(s.start, min(s.stop, s.start + window), s.start, min(s.stop, s.start + window), True)
    ]
    for start in range(s.start + window, s.stop, window):
        stop, begin = min(s.stop, start + window), start - window + 1
        found.append(Call(start, stop, begin, stop, False, window, start - begin))
    return found


def _looking_back(s: Segment, window: int) -> list[Call]:
    """The queries of a segment whose window reaches into its prefix, and the tokens it reaches."""
    reached = min(s.shared, window - 1)
    stop = min(s.stop, s.start + window - 1)
    if reached == 0:
        return []
    return [Call(s.start, stop, s.prefix[1] - reached, s.prefix[1], False, window, reached)]

"""Which rows are computed together: pure functions of lengths and ids, without torch.

A *group* is the conversations of one prompt. They begin with the same token ids, which need
computing only once: a *piece* is some rows of a group behind one copy of what they share, a
*pack* is as many pieces as fit into a token budget, and goes through the model as one row
without padding. All cuts depend on the rows alone, never on their order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from fusechat.packed.layout import Segment
from fusechat.records import Candidate

Ids = tuple[int, ...]
_BYTES_A_TOKEN = 4
_FORWARDS_A_BATCH = 2
"""A batch is what is journaled as a whole; it fills so many forward passes, or a little less."""


@dataclass(frozen=True)
class Piece:
    """Rows behind one copy of their first `shared` tokens; `shared` is 0 for a row alone."""

    rows: tuple[int, ...]
    shared: int

    def tokens(self, lengths: Sequence[int]) -> int:
        """Tokens that are computed for this piece."""
        return self.shared + sum(lengths[row] - self.shared for row in self.rows)


@dataclass(frozen=True)
class Pack:
    """Pieces laid out one after the other: what a model is fed, and where to find a token again."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    """Position of each token in its own conversation."""
    segments: tuple[Segment, ...]
    origins: dict[int, tuple[int, int, int]]
    """Row -> (shared tokens, where those begin, where its own tokens begin)."""

    def at(self, row: int, point: int) -> int:
        """Where token `point` of the conversation `row` stands in this pack."""
        shared, prefix, own = self.origins[row]
        return prefix + point if point < shared else own + point - shared


def common_prefix(rows: Sequence[Ids]) -> int:
    """How many ids all rows begin with, less where none would be left of one; 0 for a row alone."""
    if len(rows) < 2:
        return 0
    ends = zip(min(rows), max(rows), strict=False)  # in order of their ids, so all others agree
    same = next((place for place, (a, b) in enumerate(ends) if a != b), len(min(rows)))
    return min(same, min(map(len, rows)) - 1)


def pieces(rows: Sequence[Ids], groups: Sequence[Sequence[int]], budget: int) -> list[Piece]:
    """Every row of every group in one piece of at most `budget` tokens; a longer row stands alone.

    `groups`: positions in `rows`, one list for each prompt.
    """
    found: list[Piece] = []
    for group in groups:
        members = sorted(group, key=lambda row: (len(rows[row]), rows[row]))
        shared = common_prefix([rows[row] for row in members])
        weights = [len(rows[row]) - shared for row in members]
        for run in runs(weights, budget - shared):
            kept = tuple(members[run.start : run.stop])
            found.append(Piece(kept, shared if len(kept) > 1 else 0))
    return found


def packs(rows: Sequence[Ids], found: Sequence[Piece], budget: int) -> Iterator[list[Piece]]:
    """The pieces, in packs of at most `budget` tokens (a piece that exceeds it has its own)."""
    lengths = [len(row) for row in rows]
    ordered = sorted(found, key=lambda p: (p.tokens(lengths), [rows[r] for r in p.rows]))
    for run in runs([piece.tokens(lengths) for piece in ordered], budget):
        yield ordered[run.start : run.stop]


def lay_out(rows: Sequence[Ids], chosen: Sequence[Piece]) -> Pack:
    """One pack: the shared tokens of each piece, then what each of its rows has of its own."""
    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    origins: dict[int, tuple[int, int, int]] = {}
    for piece in chosen:
        begin, end = len(ids), len(ids) + piece.shared
        if piece.shared:
            ids += rows[piece.rows[0]][: piece.shared]
            positions += range(piece.shared)
            segments.append(Segment(begin, end))
        for row in piece.rows:
            own = len(ids)
            ids += rows[row][piece.shared :]
            positions += range(piece.shared, len(rows[row]))
            segments.append(Segment(own, len(ids), (begin, end)))
            origins[row] = (piece.shared, begin, own)
    return Pack(tuple(ids), tuple(positions), tuple(segments), origins)


def padded_batches(rows: Sequence[Ids], budget: int, most: int | None = None) -> list[list[int]]:
    """Rows of like length side by side, at most `most`, and rows x longest at most `budget`."""
    ordered = sorted(range(len(rows)), key=lambda row: (len(rows[row]), rows[row]))
    out: list[list[int]] = []
    for row in ordered:
        wide = out and (len(out[-1]) + 1) * len(rows[row]) > budget
        if not out or wide or len(out[-1]) == most:
            out.append([])
        out[-1].append(row)
    return out


def runs(weights: Sequence[int], budget: int) -> Iterator[range]:
    """Consecutive positions whose weights sum to at most `budget`; a heavier one stands alone."""
    start, total = 0, 0
    for position, weight in enumerate(weights):
        if position > start and total + weight > budget:
            yield range(start, position)
            start, total = position, 0
        total += weight
    if start < len(weights):
        yield range(start, len(weights))


def grouped(keys: Sequence[Hashable]) -> list[list[int]]:
    """Positions of equal keys, a list for each key, in the order of first sight."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        found[key].append(position)
    return list(found.values())


def cut_by_prompt(candidates: Sequence[Candidate], budget: int) -> list[list[Candidate]]:
    """Batches of whole prompts of like length, of about two forward passes of `budget` tokens.

    Only a prompt with more than that is divided. Lengths are guessed from the texts' bytes.
    """
    limit = _FORWARDS_A_BATCH * budget * _BYTES_A_TOKEN
    parts: list[tuple[int, list[Candidate]]] = []
    for group in grouped([candidate.prompt.id for candidate in candidates]):
        members = sorted((candidates[row] for row in group), key=_by_length)
        asked = sum(_size(message.content) for message in members[0].prompt.messages)
        weights = [_size(member.response.text) for member in members]
        for run in runs(weights, limit - asked):
            kept = members[run.start : run.stop]
            parts.append((asked + sum(weights[run.start : run.stop]), kept))
    parts.sort(key=lambda part: (part[0], part[1][0].prompt.id, part[1][0].made_from))
    cuts = runs([weight for weight, _ in parts], limit)
    return [[row for _, kept in parts[run.start : run.stop] for row in kept] for run in cuts]


def _by_length(candidate: Candidate) -> tuple[int, str, str]:
    return _size(candidate.response.text), candidate.made_from, candidate.response.id


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass")) + _BYTES_A_TOKEN

"""Bins and their layout: pure functions of lengths and ids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.packed.layout import check, positions
from fusechat.training.examples import Example, Text
from fusechat.training.packing import Layout, computed_tokens, cut_bins, lay_out, totals

COSTS = st.lists(st.integers(1, 50), max_size=40)


def _example(*texts: tuple[list[int], int], weight: float = 1.0) -> Example:
    made = tuple(Text(np.array(ids, dtype=np.int32), start) for ids, start in texts)
    return Example("p", made, weight)


@st.composite
def _examples(draw: st.DrawFn) -> list[Example]:
    """Rows of one or more sides; texts of a row may or may not begin alike."""
    sides, rows = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    ids = st.lists(st.integers(0, 3), min_size=1, max_size=6)
    made = []
    for _ in range(rows):
        texts = []
        for _ in range(sides):
            asked = draw(ids)
            texts.append((asked + draw(ids), len(asked)))
        made.append(_example(*texts, weight=draw(st.sampled_from([0.5, 1.0]))))
    return made


@given(COSTS, st.integers(1, 80), st.integers(1, 5), st.booleans())
def test_every_row_is_in_one_bin_of_one_rank_and_only_a_row_alone_exceeds_the_budget(
    costs: list[int], budget: int, world: int, equal: bool
) -> None:
    ranks = [cut_bins(costs, budget, rank, world, equal) for rank in range(world)]
    placed = [row for bins in ranks for rows in bins for row in rows]
    assert sorted(placed) == list(range(len(costs)))
    for bins in ranks:
        for rows in bins:
            assert len(rows) <= 1 or sum(costs[row] for row in rows) <= budget
    if equal:
        assert len({len(bins) for bins in ranks}) == 1
        assert max(map(len, ranks)) == max(
            sum(bool(rows) for rows in bins) for bins in ranks
        )  # no more than one rank needs
    else:
        assert all(rows for bins in ranks for rows in bins)


@given(COSTS, st.integers(1, 80), st.integers(1, 5))
def test_bins_are_the_same_every_time_and_ranks_differ_by_no_more_than_one_row(
    costs: list[int], budget: int, world: int
) -> None:
    ranks = [cut_bins(costs, budget, rank, world) for rank in range(world)]
    assert ranks == [cut_bins(list(costs), budget, rank, world) for rank in range(world)]
    loads = [sum(costs[row] for rows in bins for row in rows) for bins in ranks]
    assert max(loads) - min(loads) <= max(costs, default=0)


@given(COSTS, st.integers(50, 100))
def test_no_two_bins_could_have_been_one(costs: list[int], budget: int) -> None:
    loads = sorted(sum(costs[row] for row in rows) for rows in cut_bins(costs, budget))
    assert len(loads) < 2 or loads[0] + loads[1] > budget


def test_bins_worked_by_hand() -> None:
    # 7, then 6, 5, 4 by first fit into bins of 10: 7+3, 6+4, 5+2.
    assert cut_bins([4, 7, 2, 6, 3, 5], 10) == [[1, 4], [3, 0], [5, 2]]
    assert cut_bins([30, 2, 3], 10) == [[0], [2, 1]]
    assert cut_bins([], 10) == []
    # Two ranks: 7 | 6, then 5 to the second, 4 to the first, ...
    assert cut_bins([4, 7, 2, 6, 3, 5], 100, 0, 2) == [[1, 0, 4]]
    assert cut_bins([4, 7, 2, 6, 3, 5], 100, 1, 2) == [[3, 5, 2]]


def test_a_layout_worked_by_hand() -> None:
    pair = _example(([7, 8, 1, 2, 3], 2), ([7, 8, 4, 5], 2))
    other = _example(([9, 1, 6], 1), ([9, 9, 6, 2], 2), weight=0.5)
    made = lay_out([pair, other], [2, 1])
    assert made.ids.tolist() == [7, 8, 1, 2, 3, 4, 5, 9, 1, 6, 9, 6, 2]
    assert made.positions.tolist() == [0, 1, 2, 3, 4, 2, 3, 0, 1, 2, 1, 2, 3]
    spans = [(s.start, s.stop, *s.prefix) for s in made.segments]
    assert spans == [
        (0, 2, 0, 0), (2, 5, 0, 2), (5, 7, 0, 2), (7, 8, 0, 0), (8, 10, 7, 8), (10, 13, 7, 8),
    ]  # fmt: skip
    # Chosen texts first. Both first responses of the pair are predicted by token 1, the last of
    # their prompt; the other row's second prompt is longer than what is shared, and ends at 10.
    assert made.text_of.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert made.predictors.tolist() == [1, 2, 3, 7, 8, 1, 5, 10, 11]
    assert made.targets.tolist() == [1, 2, 3, 1, 6, 4, 5, 6, 2]
    assert made.lengths.tolist() == [3, 2, 2, 2]
    assert made.weights.tolist() == [1.0, 0.5]


@given(_examples(), st.booleans())
def test_every_text_can_be_read_back_from_a_layout(examples: list[Example], share: bool) -> None:
    shared = [example.shared if share else 0 for example in examples]
    made = lay_out(examples, shared)
    check(made.segments, len(made.ids))
    assert made.positions.tolist() == positions(made.segments).tolist()
    assert len(made.ids) == sum(map(computed_tokens, examples, shared))
    texts = [e.texts[side] for side in range(len(examples[0].texts)) for e in examples]
    for number, text in enumerate(texts):
        of_text = made.text_of == number
        assert made.targets[of_text].tolist() == text.ids[text.start :].tolist()
        seen = [_seen(made, int(place)) for place in made.predictors[of_text]]
        wanted = [text.ids[:end].tolist() for end in range(text.start, len(text.ids))]
        assert seen == wanted


def _seen(made: Layout, place: int) -> list[int]:
    """The ids that a token sees, itself last."""
    (segment,) = [s for s in made.segments if s.start <= place < s.stop]
    begin, end = segment.prefix
    return [*made.ids[begin:end].tolist(), *made.ids[segment.start : place + 1].tolist()]


def test_an_empty_bin_has_one_token_and_no_rows() -> None:
    made = lay_out([], [])
    assert (len(made.ids), len(made.lengths), len(made.weights)) == (1, 1, 0)
    check(made.segments, 1)


def test_totals_count_a_shared_prompt_once() -> None:
    pair = _example(([7, 8, 1, 2, 3], 2), ([7, 8, 4, 5], 2))
    found = totals([pair, _example(([1, 2], 1))])
    assert (found.unshared, found.shared) == (11, 9)
    assert found.ratio == pytest.approx(11 / 9)

"""What is computed together: every row once, within the budget, whatever the order of rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fusechat.annotators._shared_prompt import (
    Pack,
    Piece,
    common_prefix,
    cut_by_prompt,
    grouped,
    lay_out,
    packs,
    padded_batches,
    pieces,
    runs,
)
from fusechat.records import Candidate, Prompt, Request

IDS = st.lists(st.integers(0, 3), min_size=1, max_size=9).map(tuple)
ROWS = st.lists(IDS, min_size=1, max_size=12)
BUDGET = st.integers(1, 40)


def all_packs(rows: list[tuple[int, ...]], groups: list[list[int]], budget: int) -> list[Any]:
    return list(packs(rows, pieces(rows, groups, budget), budget))


def by_first_id(rows: list[tuple[int, ...]]) -> list[list[int]]:
    return grouped([row[0] for row in rows])


@given(ROWS)
def test_the_shared_prefix_is_common_to_all_and_leaves_each_row_a_token(
    rows: list[tuple[int, ...]],
) -> None:
    shared = common_prefix(rows)
    assert len({row[:shared] for row in rows}) == 1
    assert len(rows) == 1 or all(len(row) > shared for row in rows)


def test_the_shared_prefix_of_three_rows_worked_by_hand() -> None:
    assert common_prefix([(1, 2, 3, 4), (1, 2, 5), (1, 2, 3)]) == 2
    assert common_prefix([(1, 2), (1, 2, 3)]) == 1, "one token is left of the shorter"
    assert common_prefix([(7,), (8,)]) == 0
    assert common_prefix([(1, 2, 3)]) == 0, "a row alone shares nothing"


@given(ROWS, BUDGET)
def test_every_row_is_in_one_pack_and_a_pack_of_several_is_within_the_budget(
    rows: list[tuple[int, ...]], budget: int
) -> None:
    lengths = [len(row) for row in rows]
    made = all_packs(rows, by_first_id(rows), budget)
    assert sorted(row for pack in made for piece in pack for row in piece.rows) == [
        *range(len(rows))
    ]
    for pack in made:
        size = sum(piece.tokens(lengths) for piece in pack)
        assert size <= budget or sum(len(piece.rows) for piece in pack) == 1
        assert all(piece.shared == 0 or len(piece.rows) > 1 for piece in pack)
    assert sum(p.tokens(lengths) for pack in made for p in pack) <= sum(lengths)


@given(ROWS, BUDGET, st.randoms(use_true_random=False))
def test_packs_do_not_depend_on_the_order_of_rows(
    rows: list[tuple[int, ...]], budget: int, random: Any
) -> None:
    def contents(given_rows: list[tuple[int, ...]]) -> list[Any]:
        made = all_packs(given_rows, by_first_id(given_rows), budget)
        return [[(p.shared, [given_rows[r] for r in p.rows]) for p in pack] for pack in made]

    other = list(rows)
    random.shuffle(other)
    assert contents(rows) == contents(other)


@given(ROWS, BUDGET)
def test_every_token_of_a_row_is_found_again_in_its_pack(
    rows: list[tuple[int, ...]], budget: int
) -> None:
    for chosen in all_packs(rows, by_first_id(rows), budget):
        pack = lay_out(rows, chosen)
        for row in pack.origins:
            places = [pack.at(row, point) for point in range(len(rows[row]))]
            assert tuple(pack.ids[place] for place in places) == rows[row]
            assert [pack.positions[place] for place in places] == [*range(len(rows[row]))]
            assert seen_by_last(pack, places[-1]) == places
        assert [s.start for s in pack.segments[1:]] == [s.stop for s in pack.segments[:-1]]


def seen_by_last(pack: Pack, place: int) -> list[int]:
    (segment,) = (s for s in pack.segments if s.start <= place < s.stop)
    return [*range(*segment.prefix), *range(segment.start, place + 1)]


def test_a_pack_worked_by_hand() -> None:
    rows = [(1, 2, 3), (1, 2, 4, 5), (9,)]
    pack = lay_out(rows, [Piece((2,), 0), Piece((0, 1), 2)])
    assert pack.ids == (9, 1, 2, 3, 4, 5)
    assert pack.positions == (0, 0, 1, 2, 2, 3)
    assert [(s.start, s.stop, s.prefix) for s in pack.segments] == [
        (0, 1, (0, 0)), (1, 3, (0, 0)), (3, 4, (1, 3)), (4, 6, (1, 3)),
    ]  # fmt: skip
    assert [pack.at(1, point) for point in range(4)] == [1, 2, 4, 5]


@given(ROWS, BUDGET, st.one_of(st.none(), st.integers(1, 3)))
def test_padded_batches_hold_every_row_once_within_both_limits(
    rows: list[tuple[int, ...]], budget: int, most: int | None
) -> None:
    made = padded_batches(rows, budget, most)
    assert sorted(row for batch in made for row in batch) == [*range(len(rows))]
    for batch in made:
        size = len(batch) * max(len(rows[row]) for row in batch)
        assert len(batch) == 1 or size <= budget
        assert most is None or len(batch) <= most
    lengths = [len(rows[row]) for batch in made for row in batch]
    assert lengths == sorted(lengths)


@given(st.lists(st.integers(0, 9), max_size=9), st.integers(-3, 20))
def test_runs_are_consecutive_and_within_the_budget_or_of_one(
    weights: list[int], budget: int
) -> None:
    made = list(runs(weights, budget))
    assert [place for run in made for place in run] == [*range(len(weights))]
    assert all(len(run) == 1 or sum(weights[p] for p in run) <= budget for run in made)


def candidate(asked: str, answered: str) -> Candidate:
    prompt = Prompt.of(asked, domain="chat")
    made_from = f"{asked}|{answered}"
    request = Request(prompt=prompt, source="s", index=0, seed=1, model="m", made_from=made_from)
    response = request.response(answered, "stop")
    return Candidate(prompt=prompt, response=response, annotator="rm", made_from=made_from)


TEXTS = st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=60)), max_size=15, unique=True)


@given(TEXTS, st.integers(1, 30), st.randoms(use_true_random=False))
def test_a_shard_is_cut_into_the_same_batches_whatever_the_order_of_its_rows(
    texts: list[tuple[str, str]], budget: int, random: Any
) -> None:
    rows = [candidate(*text) for text in texts]
    made = cut_by_prompt(rows, budget)
    count = Counter(row.made_from for batch in made for row in batch)
    assert count == Counter(row.made_from for row in rows)
    random.shuffle(rows)
    assert cut_by_prompt(rows, budget) == made


@given(TEXTS)
def test_a_batch_that_is_cut_again_stays_whole(texts: list[tuple[str, str]]) -> None:
    for batch in cut_by_prompt([candidate(*text) for text in texts], 20):
        assert cut_by_prompt(batch, 20) == [batch]


def test_the_responses_of_a_prompt_stay_together_and_long_groups_are_cut() -> None:
    """2 x 100 tokens of 4 bytes a batch: all 15 short ones, or 3 answers of 204 with the prompt."""
    short = [candidate(f"prompt {n}", f"{i}" * 10) for i in range(3) for n in range(5)]
    (batch,) = cut_by_prompt(short, 100)
    assert [len({row.prompt.id for row in batch[n : n + 3]}) for n in range(0, 15, 3)] == [1] * 5
    long = [candidate("one", f"{i:02}" * 100) for i in range(10)]
    assert [len(batch) for batch in cut_by_prompt(long, 100)] == [1, 3, 3, 3]
    assert cut_by_prompt([], 100) == []

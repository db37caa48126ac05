"""The order of the data, and how a step is cut and padded."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_tiny import random_examples

from fusechat.training.batches import PADDED_TOKENS, cut, epoch_order, pad
from fusechat.training.examples import Example, Text


@given(st.integers(0, 200), st.integers(0, 5), st.integers(0, 3))
def test_an_epochs_order_is_a_permutation_that_only_seed_and_epoch_decide(
    rows: int, seed: int, epoch: int
) -> None:
    order = epoch_order(rows, seed, epoch)
    assert sorted(order) == list(range(rows))
    assert order == epoch_order(rows, seed, epoch)


def test_epochs_and_seeds_have_orders_of_their_own_and_those_do_not_change() -> None:
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert len(orders) == 6
    assert epoch_order(6, 0, 0) == [2, 3, 1, 0, 5, 4]


@given(st.integers(1, 40), st.integers(1, 4), st.one_of(st.none(), st.integers(1, 9)))
def test_the_ranks_micro_batches_hold_every_row_once(
    rows: int, world: int, size: int | None
) -> None:
    examples = random_examples(rows, 2, seed=rows)
    cuts = [cut(examples, size, rank, world) for rank in range(world)]
    assert sorted(row for rank in cuts for batch in rank for row in batch) == list(range(rows))
    assert all(len(batch) <= (size or rows) for rank in cuts for batch in rank)
    counts = [sum(map(len, rank)) for rank in cuts]
    assert max(counts) - min(counts) <= 1


def test_rows_of_like_length_share_a_micro_batch() -> None:
    examples = random_examples(12, 1, seed=3)
    lengths = [examples[row].longest for batch in cut(examples, 4) for row in batch]
    assert lengths == sorted((e.longest for e in examples), reverse=True)


def test_without_a_size_a_micro_batch_fits_its_budget_of_padded_tokens() -> None:
    text = Text(np.zeros(1000, dtype=np.int32), 10)
    pairs = [Example(str(number), (text, text), 1.0) for number in range(9)]
    assert [len(batch) for batch in cut(pairs, None)] == [PADDED_TOKENS // 2000] * 2 + [1]
    giant = Example("g", (Text(np.zeros(PADDED_TOKENS * 2, dtype=np.int32), 1),), 1.0)
    assert cut([giant, giant], None) == [[0], [1]]


def test_padding_worked_by_hand() -> None:
    examples = [
        Example("a", (_text([1, 2, 3, 4], 2), _text([1, 2, 5], 2)), 1.0),
        Example("b", (_text([6, 7], 1), _text([6, 8, 9], 1)), 0.5),
    ]
    batch = pad(examples, torch.device("cpu"))
    # Chosen texts of all rows first, then the rejected ones.
    assert batch.input_ids.tolist() == [[1, 2, 3, 4], [6, 7, 0, 0], [1, 2, 5, 0], [6, 8, 9, 0]]
    assert batch.lengths.tolist() == [2, 1, 1, 2]
    # The token before each response token predicts it; flattened places, four to a text.
    assert batch.positions.tolist() == [1, 2, 4, 9, 12, 13]
    assert batch.targets.tolist() == [3, 4, 7, 5, 8, 9]
    assert batch.text_of.tolist() == [0, 0, 1, 2, 3, 3]
    assert batch.weights.tolist() == [1.0, 0.5]


def _text(ids: list[int], start: int) -> Text:
    return Text(np.array(ids, dtype=np.int32), start)

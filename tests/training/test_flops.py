"""Operations of training steps, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.training.flops import (
    Load,
    assumed_rate,
    forward_flops,
    load_of,
    step_flops,
    total_load,
    unit_flops,
)
from fusechat.training.memory_shapes import PUBLISHED, Shape

SMALL = Shape(2, 3, 1, 1, 5, 7, 11, False)
LENGTHS = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=3)


def test_a_pair_with_a_shared_prompt_counts_it_once() -> None:
    # Prompt 3, responses 2 and 4. Shared: 3 + 2 + 4 tokens; they see 1+2+3 keys in the prompt,
    # (4+5) in the first response and (4+5+6+7) in the second.
    assert load_of([(3, 2), (3, 4)], 3) == Load(9, 6 + 9 + 22, 6)
    assert load_of([(3, 2), (3, 4)]) == Load(12, (6 + 9) + (6 + 22), 6)


def test_a_forward_pass_is_counted_as_the_formula_says() -> None:
    # B = 2 layers x (3 x (2 x 5 + 2 x 5) + 3 x 3 x 7) = 246, H = 33, q = 5, L = 2.
    body, head = forward_flops(SMALL, Load(10, 55, 4))
    assert body == 2 * 246 * 10 + 4 * 5 * 2 * 55
    assert head == 2 * 33 * 4


@pytest.mark.parametrize(
    ("name", "naive", "ratio"),
    [("Llama-3.2-1B", 4.66, 1.278), ("Llama-3.1-8B", 30.2, 1.314), ("gemma-2-9b", 36.7, 1.307)],
)
def test_pairs_of_512_tokens_each_take_the_known_numbers(
    name: str, naive: float, ratio: float
) -> None:
    shape = next(shape for full, shape in PUBLISHED.items() if name in full)
    apart = sum(forward_flops(shape, load_of([(512, 512)] * 2)))
    shared = sum(forward_flops(shape, load_of([(512, 512)] * 2, 512)))
    assert apart / 1e12 == pytest.approx(naive, rel=2e-3)
    assert apart / shared == pytest.approx(ratio, rel=2e-3)


def test_a_step_is_three_bodies_and_four_heads() -> None:
    load = Load(10, 55, 4)
    body, head = forward_flops(SMALL, load)
    assert step_flops(SMALL, load, checkpointing=False) == 3 * body + 4 * head
    assert step_flops(SMALL, load, checkpointing=True) == 4 * body + 4 * head
    assert step_flops(SMALL, load, checkpointing=True, lora=True) == 3 * body + 3 * head


def test_a_unit_is_its_epochs_and_one_pass_of_the_reference() -> None:
    load = Load(10, 55, 4)
    step = step_flops(SMALL, load, False)
    assert unit_flops(SMALL, load, 2.5, False, reference=False) == 2.5 * step
    with_reference = unit_flops(SMALL, load, 1, False, reference=True)
    assert with_reference == step + sum(forward_flops(SMALL, load))


@given(LENGTHS, LENGTHS)
def test_loads_add_up(one: list[tuple[int, int]], two: list[tuple[int, int]]) -> None:
    assert load_of(one) + load_of(two) == total_load([load_of(two), load_of(one)])
    assert load_of([*one, *two]) == load_of(one) + load_of(two)


@given(st.integers(0, 40), st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_what_is_shared_is_seen_like_what_is_not(prompt: int, responses: list[int]) -> None:
    """Every query sees the same keys; only those of the extra copies of the prompt fall away."""
    texts = [(prompt, response) for response in responses]
    apart, shared = load_of(texts), load_of(texts, prompt)
    copies = len(texts) - 1
    assert apart.computed - shared.computed == copies * prompt
    assert apart.seen - shared.seen == copies * prompt * (prompt + 1) / 2
    assert apart.responses == shared.responses


def test_rates_are_assumed_for_known_gpus_only() -> None:
    assert assumed_rate("H200", mixed=True) == pytest.approx(0.32 * 989e12)
    assert assumed_rate("h200", mixed=False) == pytest.approx(0.04 * 989e12)
    assert assumed_rate("80GB", mixed=True) is None

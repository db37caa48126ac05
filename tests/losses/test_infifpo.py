"""InfiFPO: which source is taken, how it is clipped, and what is left without sources."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.losses.loss_inputs import Inputs, rows_of

from fusechat.losses.infifpo import InfiFpo
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo

SIDES = ("chosen", "rejected")


def _one(
    policy: tuple[float, float],
    pivot: tuple[float, float],
    sources: tuple[list[float], list[float]],
) -> Inputs:
    """One pair from log-probabilities of a token; every text has another number of tokens."""
    logps, lengths = {}, {}
    for side, tokens, now, before, others in zip(
        SIDES, (5, 8), policy, pivot, sources, strict=True
    ):
        own = torch.arange(3, 3 + len(others))
        lengths |= {side: torch.tensor([tokens]), f"sources_{side}": own[None, :]}
        logps[side] = torch.tensor([now * tokens], dtype=torch.float64)
        logps[f"reference_{side}"] = torch.tensor([before * tokens], dtype=torch.float64)
        logps[f"sources_{side}"] = (torch.tensor(others, dtype=torch.float64) * own)[None, :]
    return logps, lengths


def _shifts(loss: InfiFpo, inputs: Inputs) -> list[float]:
    metrics = loss(*inputs, 0.0)[1]
    return [metrics[f"source_shift_{side}"].item() for side in SIDES]


def test_the_loss_of_a_pair_worked_by_hand() -> None:
    # At the pivot; the source gives the chosen response 0.4 nats a token more and the rejected one
    # 0.6 less: rewards 2 * -0.4 and 2 * 0.6, margin -2.
    inputs = _one((-1.0, -2.0), (-1.0, -2.0), ([-0.6], [-2.6]))
    losses, metrics = InfiFpo(beta=2)(*inputs, 0.0)
    assert losses.item() == pytest.approx(math.log1p(math.exp(2)), rel=1e-12)
    assert metrics["margins"].item() == pytest.approx(-2)
    assert _shifts(InfiFpo(), inputs) == pytest.approx([0.4, -0.6])


def test_a_source_that_likes_the_chosen_less_or_the_rejected_more_is_clipped_to_the_pivot() -> None:
    inputs = _one((-1.0, -2.0), (-1.0, -2.0), ([-3.0], [-0.5]))
    assert _shifts(InfiFpo(), inputs) == [0.0, 0.0]
    assert _shifts(InfiFpo(clip=False), inputs) == pytest.approx([-2.0, 1.5])


def test_of_several_sources_the_one_that_differs_most_in_probability_is_taken() -> None:
    # From -1 (0.37): -0.5 (0.61) differs by 0.24, -0.2 (0.82) by 0.45. From -2 (0.135): -2.5 is
    # nearer than -9.
    inputs = _one((-1.0, -2.0), (-1.0, -2.0), ([-0.5, -0.2, -0.8], [-2.5, -9.0, -2.1]))
    assert _shifts(InfiFpo(), inputs) == pytest.approx([0.8, -7.0])


def test_the_difference_is_one_of_probabilities_not_of_their_logarithms() -> None:
    # From 0.5: 0.1 is 0.4 away (1.6 nats), 0.95 is 0.45 away (0.64 nats).
    pivot = math.log(0.5)
    inputs = _one((pivot, pivot), (pivot, pivot), ([math.log(0.1), math.log(0.95)], [pivot] * 2))
    assert _shifts(InfiFpo(clip=False), inputs)[0] == pytest.approx(math.log(0.95) - pivot)


def test_the_current_pivot_decides_which_source_is_far_and_the_initial_one_clips() -> None:
    # The policy has moved up to the source: from there the initial pivot is the farthest.
    inputs = _one((-0.3, -2.0), (-1.0, -2.0), ([-0.3], [-2.0]))
    assert _shifts(InfiFpo(), inputs)[0] == 0.0
    assert _shifts(InfiFpo(margin_from="initial"), inputs)[0] == pytest.approx(0.7)


@pytest.mark.parametrize("margin_from", ["current", "initial"])
@pytest.mark.parametrize("clip", [True, False])
def test_with_one_source_equal_to_the_pivot_it_is_length_normalized_dpo(
    margin_from: Any, clip: bool
) -> None:
    loss = InfiFpo(beta=3, clip=clip, margin_from=margin_from)
    logps, lengths = rows_of(loss, sources=1)
    for side in SIDES:
        lengths[f"sources_{side}"] = lengths[side][:, None]
        logps[f"sources_{side}"] = logps[f"reference_{side}"][:, None]
    _assert_is_length_normalized(loss, (logps, lengths))


def test_where_no_source_gave_a_value_it_is_length_normalized_dpo() -> None:
    loss = InfiFpo(beta=3)
    logps, lengths = rows_of(loss)
    for side in SIDES:
        logps[f"sources_{side}"] = torch.full_like(logps[f"sources_{side}"], torch.nan)
        lengths[f"sources_{side}"] = torch.zeros_like(lengths[f"sources_{side}"])
    _assert_is_length_normalized(loss, (logps, lengths))


def _assert_is_length_normalized(loss: InfiFpo, inputs: Inputs) -> None:
    losses, metrics = loss(*inputs, 0.0)
    expected, plain = LengthNormalizedDpo(beta=loss.beta)(*inputs, 0.0)
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0)
    for name in plain:
        torch.testing.assert_close(metrics[name], plain[name], rtol=1e-9, atol=1e-12)


@given(st.permutations(range(4)), st.integers(0, 5), st.booleans())
def test_the_order_of_the_sources_does_not_matter(order: list[int], seed: int, clip: bool) -> None:
    loss = InfiFpo(clip=clip)
    logps, lengths = rows_of(loss, sources=4, seed=seed)
    moved = [
        {n: v[:, order] if n.startswith("sources_") else v for n, v in named.items()}
        for named in (logps, lengths)
    ]
    assert torch.equal(loss(moved[0], moved[1], 0.0)[0], loss(logps, lengths, 0.0)[0])


def test_a_source_without_a_value_is_as_if_it_were_not_there() -> None:
    loss = InfiFpo()
    both = _one((-1.0, -2.0), (-1.2, -1.5), ([-0.6, math.nan], [math.nan, -2.6]))
    for side, kept in zip(SIDES, (0, 1), strict=True):
        both[1][f"sources_{side}"][:, 1 - kept] = 0
    alone = tuple(
        {
            n: v[:, [SIDES.index(n.removeprefix("sources_"))]] if n.startswith("sources_") else v
            for n, v in named.items()
        }
        for named in both
    )
    assert torch.equal(loss(*both, 0.0)[0], loss(*alone, 0.0)[0])


def test_a_source_of_another_tokenizer_counts_its_own_tokens() -> None:
    loss = InfiFpo()
    one = _one((-1.0, -2.0), (-1.0, -2.0), ([-0.6], [-2.6]))
    longer = (dict(one[0]), dict(one[1]))
    for side in SIDES:  # three times the tokens, at the same mean
        longer[0][f"sources_{side}"] = one[0][f"sources_{side}"] * 3
        longer[1][f"sources_{side}"] = one[1][f"sources_{side}"] * 3
    torch.testing.assert_close(loss(*longer, 0.0)[0], loss(*one, 0.0)[0])


def test_it_needs_sources_and_a_reference_and_the_default_beta_is_the_papers() -> None:
    assert InfiFpo.needs_reference
    assert InfiFpo.needs_sources
    assert InfiFpo().beta == 2.5

"""Length-normalized DPO: the formula, what it is invariant to, and TRL as oracle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusechat.losses.dpo import Dpo
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.parts import load_part

Named = dict[str, torch.Tensor]
NATS = st.floats(-1000, 0)


def _pair(chosen: float, rejected: float, tokens: tuple[int, int]) -> tuple[Named, Named]:
    """Policy and reference sums that differ by `chosen` and `rejected` nats per token."""
    lengths = dict(
        zip(("chosen", "rejected"), map(torch.tensor, ([n] for n in tokens)), strict=True)
    )
    reference = {side: -3.0 * n.double() for side, n in lengths.items()}
    ratios = {"chosen": chosen, "rejected": rejected}
    logps = {side: reference[side] + ratios[side] * n.double() for side, n in lengths.items()}
    return {**logps, **{f"reference_{s}": v for s, v in reference.items()}}, lengths


def test_the_loss_of_a_pair_worked_by_hand() -> None:
    # 0.02 nats a token over 5 tokens against -0.01 over 40: margin 10 * (0.02 + 0.01) = 0.3.
    losses, metrics = LengthNormalizedDpo(beta=10)(*_pair(0.02, -0.01, (5, 40)), 0.0)
    assert losses.item() == pytest.approx(math.log1p(math.exp(-0.3)), rel=1e-12)
    assert metrics["margins"].item() == pytest.approx(0.3)
    assert metrics["rewards_chosen"].item() == pytest.approx(0.2)
    assert metrics["rewards_rejected"].item() == pytest.approx(-0.1)


@given(NATS, NATS, st.integers(1, 500), st.integers(1, 500))
def test_at_the_reference_the_loss_is_ln_2(a: float, b: float, n: int, m: int) -> None:
    sums = {"chosen": torch.tensor([a]), "rejected": torch.tensor([b])}
    logps = {**sums, **{f"reference_{side}": value for side, value in sums.items()}}
    lengths = {"chosen": torch.tensor([n]), "rejected": torch.tensor([m])}
    losses, _ = LengthNormalizedDpo()(logps, lengths, 0.0)
    assert losses.item() == pytest.approx(math.log(2), rel=1e-6)


@given(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2), st.integers(1, 300), st.integers(2, 5))
def test_lengthening_a_response_at_the_same_log_ratio_per_token_changes_nothing(
    chosen: float, rejected: float, tokens: int, times: int
) -> None:
    short, long = (
        _pair(chosen, rejected, (tokens, 50)),
        _pair(chosen, rejected, (tokens * times, 50)),
    )
    loss = LengthNormalizedDpo()
    assert loss(*long, 0.0)[0].item() == pytest.approx(loss(*short, 0.0)[0].item(), rel=1e-9)


def test_plain_dpo_does_change_when_a_response_is_lengthened() -> None:
    short, long = _pair(0.02, -0.01, (5, 40)), _pair(0.02, -0.01, (50, 40))
    assert Dpo()(*long, 0.0)[0].item() < Dpo()(*short, 0.0)[0].item() - 0.01


@given(NATS, NATS, NATS, NATS, st.floats(0.01, 20))
def test_with_one_token_on_each_side_it_is_plain_dpo(
    a: float, b: float, c: float, d: float, beta: float
) -> None:
    names = ("chosen", "rejected", "reference_chosen", "reference_rejected")
    logps = {n: torch.tensor([v]).double() for n, v in zip(names, (a, b, c, d), strict=True)}
    ones = {"chosen": torch.tensor([1]), "rejected": torch.tensor([1])}
    ours = LengthNormalizedDpo(beta=beta)(logps, ones, 0.0)
    plain = Dpo(beta=beta)(logps, ones, 0.0)
    assert ours[0].item() == plain[0].item()
    assert all(ours[1][name].equal(plain[1][name]) for name in plain[1])


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_equals_trl_sigmoid_norm_to_1e_10(
    seed: int, trl_preference_loss: Callable[..., Any], random_pairs: Callable[..., Any]
) -> None:
    inputs = random_pairs(seed)
    logps, lengths = inputs
    losses, _ = LengthNormalizedDpo(beta=10)(logps, lengths, 0.0)
    expected, _ = trl_preference_loss("sigmoid_norm", 10.0, inputs)
    assert losses.mean().item() == pytest.approx(expected, rel=1e-10)


def test_the_gradient_equals_finite_differences_and_the_formula() -> None:
    logps, lengths = _pair(0.02, -0.01, (5, 40))
    chosen, rejected = logps["chosen"].requires_grad_(), logps["rejected"].requires_grad_()
    loss = LengthNormalizedDpo(beta=10)

    def value(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        return loss({**logps, "chosen": chosen, "rejected": rejected}, lengths, 0.0)[0]

    assert torch.autograd.gradcheck(value, (chosen, rejected))
    torch.autograd.backward(value(chosen, rejected).sum())
    assert chosen.grad is not None
    assert rejected.grad is not None
    # dL/dlogp_w = -(beta / |y_w|) sigma(-z), z = 0.3.
    slope = 10 / (1 + math.exp(0.3))
    assert chosen.grad.item() == pytest.approx(-slope / 5, rel=1e-9)
    assert rejected.grad.item() == pytest.approx(slope / 40, rel=1e-9)


@pytest.mark.parametrize("extreme", [-1e4, -1e8, -1e30])
def test_extremes_and_an_empty_response_give_a_finite_loss(extreme: float) -> None:
    logps = {
        "chosen": torch.tensor([extreme, 0.0]), "rejected": torch.tensor([-1.0, extreme]),
        "reference_chosen": torch.tensor([-1.0, 0.0]),
        "reference_rejected": torch.tensor([-1.0, -1.0]),
    }  # fmt: skip
    lengths = {"chosen": torch.tensor([1, 0]), "rejected": torch.tensor([1, 2000])}
    assert torch.isfinite(LengthNormalizedDpo()(logps, lengths, 0.0)[0]).all()


def test_a_recipe_finds_it_by_name_and_the_default_beta_is_the_papers() -> None:
    assert load_part("losses", {"use": "length_normalized_dpo"}) == LengthNormalizedDpo(beta=10)

"""Direct preference optimization: the formula, its gradient, and TRL as oracle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fusechat.losses.dpo import Dpo

NATS = st.floats(-1000, 0)


def _inputs(*values: float) -> dict[str, torch.Tensor]:
    names = ("chosen", "rejected", "reference_chosen", "reference_rejected")
    return {
        name: torch.tensor([value], dtype=torch.float64)
        for name, value in zip(names, values, strict=True)
    }


LENGTHS = {"chosen": torch.tensor([7]), "rejected": torch.tensor([3])}


def test_the_loss_of_a_pair_worked_by_hand() -> None:
    # log-ratios: -10 + 12 = 2 and -20 + 17 = -3; margin 0.1 * (2 + 3) = 0.5;
    # loss = log(1 + e^-0.5) = 0.474077.
    losses, metrics = Dpo(beta=0.1)(_inputs(-10, -20, -12, -17), LENGTHS, 0.0)
    assert losses.item() == pytest.approx(math.log1p(math.exp(-0.5)), rel=1e-12)
    assert metrics["rewards_chosen"].item() == pytest.approx(0.2)
    assert metrics["rewards_rejected"].item() == pytest.approx(-0.3)
    assert metrics["margins"].item() == pytest.approx(0.5)
    assert metrics["accuracies"].item() == 1.0


def test_normalized_margins_are_per_token_and_without_beta_beside_the_losss_own_scale() -> None:
    # Log-ratios 2 over 7 tokens and -3 over 3: 2/7 + 1 = 9/7 nats of a token, whatever beta.
    for beta in (0.01, 0.1, 10):
        metrics = Dpo(beta=beta)(_inputs(-10, -20, -12, -17), LENGTHS, 0.0)[1]
        assert metrics["normalized_margins"].item() == pytest.approx(9 / 7)
        assert metrics["normalized_accuracies"].item() == 1.0


def test_the_sum_and_the_mean_of_a_token_can_rank_a_pair_differently() -> None:
    # Log-ratios 7 over 7 tokens and 6 over 3: the sums say right, the tokens (1 against 2) wrong.
    metrics = Dpo()(_inputs(-10, -20, -17, -26), LENGTHS, 0.0)[1]
    assert metrics["accuracies"].item() == 1.0
    assert metrics["normalized_accuracies"].item() == 0.0
    assert metrics["normalized_margins"].item() == pytest.approx(-1.0)


@given(NATS, NATS)
def test_at_the_reference_the_loss_is_ln_2_and_nothing_counts_as_won(a: float, b: float) -> None:
    losses, metrics = Dpo()(_inputs(a, b, a, b), LENGTHS, 0.0)
    assert losses.item() == pytest.approx(math.log(2), rel=1e-15)
    assert metrics["accuracies"].item() == 0.0


@given(NATS, NATS, NATS, NATS)
def test_swapping_the_sides_changes_the_sign_of_the_margin(
    a: float, b: float, c: float, d: float
) -> None:
    there = Dpo()(_inputs(a, b, c, d), LENGTHS, 0.0)[1]["margins"]
    back = Dpo()(_inputs(b, a, d, c), LENGTHS, 0.0)[1]["margins"]
    assert there.item() == pytest.approx(-back.item(), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_loss_and_metrics_equal_trl_sigmoid_to_1e_10(
    seed: int, trl_preference_loss: Callable[..., Any], random_pairs: Callable[..., Any]
) -> None:
    inputs = random_pairs(seed)
    logps, lengths = inputs
    losses, metrics = Dpo(beta=0.05)(logps, lengths, 0.0)
    expected, logged = trl_preference_loss("sigmoid", 0.05, inputs)
    assert losses.mean().item() == pytest.approx(expected, rel=1e-10)
    names = {"margins": "margins", "rewards_chosen": "chosen", "rewards_rejected": "rejected"}
    for ours, theirs in {**names, "accuracies": "accuracies"}.items():
        mean = metrics[ours].double().mean().item()
        assert mean == pytest.approx(logged[f"rewards/{theirs}"], rel=1e-6)


def test_the_gradient_equals_finite_differences_and_the_formula() -> None:
    inputs = {name: value.requires_grad_() for name, value in _inputs(-10, -20, -12, -17).items()}
    loss = Dpo(beta=0.1)

    def value(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        return loss({**inputs, "chosen": chosen, "rejected": rejected}, LENGTHS, 0.0)[0]

    assert torch.autograd.gradcheck(value, (inputs["chosen"], inputs["rejected"]))
    torch.autograd.backward(value(inputs["chosen"], inputs["rejected"]).sum())
    assert inputs["chosen"].grad is not None
    assert inputs["rejected"].grad is not None
    # dL/dlogp_w = -beta sigma(-z) with z = 0.5, and the opposite for the rejected side.
    expected = -0.1 / (1 + math.exp(0.5))
    assert inputs["chosen"].grad.item() == pytest.approx(expected, rel=1e-12)
    assert inputs["rejected"].grad.item() == pytest.approx(-expected, rel=1e-12)


@pytest.mark.parametrize("extreme", [-1e4, -1e8, -1e30])
def test_extreme_log_probabilities_give_a_finite_loss_and_gradient(extreme: float) -> None:
    for values in ((extreme, -1.0, -1.0, -1.0), (-1.0, extreme, -1.0, -1.0)):
        inputs = {name: value.float() for name, value in _inputs(*values).items()}
        chosen = inputs["chosen"].requires_grad_()
        losses, _ = Dpo()(inputs, LENGTHS, 0.0)
        torch.autograd.backward(losses.sum())
        assert torch.isfinite(losses).all()
        assert chosen.grad is not None
        assert torch.isfinite(chosen.grad).all()


def test_beta_must_be_positive_and_other_settings_are_refused() -> None:
    with pytest.raises(ValidationError):
        Dpo(beta=0)
    with pytest.raises(ValidationError):
        Dpo.model_validate({"betta": 1})


def test_it_needs_pairs_and_a_reference() -> None:
    assert Dpo.consumes == "Pair"
    assert Dpo.needs_reference
    assert Dpo.reduction == "rows"

"""IPO: a squared distance from a fixed margin, with TRL as oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.losses.loss_inputs import rows_of

from fusechat.losses.ipo import Ipo


def _pair(*values: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    names = ("chosen", "rejected", "reference_chosen", "reference_rejected")
    logps = {n: torch.tensor([v]).double() for n, v in zip(names, values, strict=True)}
    return logps, {"chosen": torch.tensor([4]), "rejected": torch.tensor([3])}


def test_the_loss_of_a_pair_worked_by_hand_per_token_and_summed() -> None:
    # Log-ratios 2 (4 tokens) and -3 (3 tokens), beta 0.5: the margin aimed at is 1.
    # Per token 0.5 + 1 = 1.5, (1.5 - 1)^2 = 0.25; summed 5, (5 - 1)^2 = 16.
    inputs = _pair(-10, -20, -12, -17)
    assert Ipo(beta=0.5)(*inputs, 0.0)[0].item() == pytest.approx(0.25)
    assert Ipo(beta=0.5, average=False)(*inputs, 0.0)[0].item() == pytest.approx(16)


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_at_the_reference_the_loss_is_the_square_of_the_margin_aimed_at(beta: float) -> None:
    losses, metrics = Ipo(beta=beta)(*_pair(-10, -20, -10, -20), 0.0)
    assert losses.item() == pytest.approx(1 / (4 * beta**2))
    assert metrics["margins"].item() == 0.0


def test_beyond_the_margin_the_loss_pulls_back() -> None:
    logps, lengths = _pair(-10, -20, -30, -17)  # 5 + 1 nats a token; 1 is aimed at
    chosen = logps["chosen"].requires_grad_()
    losses, metrics = Ipo(beta=0.5)({**logps, "chosen": chosen}, lengths, 0.0)
    torch.autograd.backward(losses.sum())
    assert chosen.grad is not None
    assert chosen.grad.item() > 0
    assert metrics["margins"].item() == pytest.approx(3)  # beta times 6; 0.5 is aimed at


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_equals_trl_ipo_to_1e_10(
    seed: int, trl_preference_loss: Callable[..., Any], random_pairs: Callable[..., Any]
) -> None:
    inputs = random_pairs(seed)
    expected, _ = trl_preference_loss("ipo", 0.3, inputs)
    assert Ipo(beta=0.3)(*inputs, 0.0)[0].mean().item() == pytest.approx(expected, rel=1e-10)


def test_with_one_token_on_each_side_both_forms_are_one() -> None:
    logps, lengths = rows_of(Ipo())
    ones = {side: torch.ones_like(count) for side, count in lengths.items()}
    for one, other in zip(
        (Ipo()(logps, ones, 0.0)), Ipo(average=False)(logps, ones, 0.0), strict=True
    ):
        torch.testing.assert_close(one, other)

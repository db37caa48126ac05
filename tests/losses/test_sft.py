"""Supervised fine-tuning loss."""

from __future__ import annotations

import pytest
import torch

from fusechat.losses.sft import Sft
from fusechat.parts import load_part


def test_a_rows_loss_is_its_summed_nats_so_that_the_step_can_average_over_tokens() -> None:
    logps = torch.tensor([-2.0, -9.0])
    losses, metrics = Sft()({"response": logps}, {"response": torch.tensor([1, 3])}, 0.0)
    assert losses.tolist() == [2.0, 9.0]
    assert metrics == {}
    # Tokens of the step: 1 + 3. Token-mean (2 + 9) / 4 = 2.75; a mean of row means would be 2.5.
    assert losses.sum().item() / 4 == 2.75
    assert Sft.reduction == "tokens"


def test_it_learns_from_demonstrations_without_a_reference() -> None:
    assert Sft.consumes == "Demonstration"
    assert not Sft.needs_reference


def test_the_gradient_is_minus_one_for_each_response() -> None:
    logps = torch.tensor([-2.0, -9.0], dtype=torch.float64, requires_grad=True)
    torch.autograd.backward(
        Sft()({"response": logps}, {"response": torch.tensor([1, 3])}, 0.0)[0].sum()
    )
    assert logps.grad is not None
    assert logps.grad.tolist() == [-1.0, -1.0]


@pytest.mark.parametrize("value", [0.0, -1e-30, -1e6, -1e30])
def test_extreme_log_probabilities_give_a_finite_loss(value: float) -> None:
    losses, _ = Sft()({"response": torch.tensor([value])}, {"response": torch.tensor([1])}, 0.0)
    assert torch.isfinite(losses).all()


def test_a_recipe_finds_it_by_name() -> None:
    assert load_part("losses", {"use": "sft"}) == Sft()

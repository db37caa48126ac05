"""SimPO: mean log-probabilities and a target margin, with TRL as oracle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.losses.loss_inputs import rows_of

from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.simpo import Simpo


def test_the_loss_of_a_pair_worked_by_hand() -> None:
    # -8 / 4 = -2 and -12 / 4 = -3 nats a token, beta 2: rewards -4 and -6; 2 - gamma 1.5 = 0.5.
    logps = {"chosen": torch.tensor([-8.0]), "rejected": torch.tensor([-12.0])}
    lengths = {"chosen": torch.tensor([4]), "rejected": torch.tensor([4])}
    losses, metrics = Simpo(beta=2, gamma=1.5)(logps, lengths, 0.0)
    assert losses.item() == pytest.approx(math.log1p(math.exp(-0.5)), rel=1e-6)
    assert {name: value.item() for name, value in metrics.items()} == {
        "rewards_chosen": -4.0, "rewards_rejected": -6.0, "margins": 2.0, "accuracies": 1.0,
    }  # fmt: skip


def test_gamma_is_the_papers_and_the_ratio_is_that_over_beta() -> None:
    assert Simpo().target_margin == 1.0
    assert Simpo(beta=2.5, gamma_beta_ratio=0.4).target_margin == pytest.approx(1.0)
    assert Simpo(beta=2.5, gamma=0.3).target_margin == 0.3
    assert Simpo(gamma=0.0).target_margin == 0.0
    inputs = rows_of(Simpo())
    one = Simpo(beta=2.5, gamma_beta_ratio=0.4)(*inputs, 0.0)[0]
    assert torch.equal(one, Simpo(beta=2.5, gamma=1.0)(*inputs, 0.0)[0])
    with pytest.raises(ValidationError, match="say the same thing"):
        Simpo(gamma=1, gamma_beta_ratio=0.5)


@pytest.mark.parametrize("seed", range(3))
def test_losses_and_rewards_equal_trls_cpo_trainer_to_1e_10(
    seed: int, trl_cpo_loss: Callable[..., Any], random_pairs: Callable[..., Any]
) -> None:
    inputs = random_pairs(seed)
    losses, metrics = Simpo(beta=2.5, gamma=1.4)(*inputs, 0.0)
    expected, chosen, rejected = trl_cpo_loss("simpo", 2.5, 1.4, inputs)
    torch.testing.assert_close(losses, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(metrics["rewards_chosen"], chosen, rtol=1e-10, atol=0)
    torch.testing.assert_close(metrics["rewards_rejected"], rejected, rtol=1e-10, atol=0)


def test_without_a_margin_it_is_length_normalized_dpo_with_a_uniform_reference() -> None:
    logps, lengths = rows_of(Simpo())
    # A reference that gives every token the same probability cancels out per token.
    uniform = {f"reference_{side}": -3.0 * count for side, count in lengths.items()}
    normalized = LengthNormalizedDpo(beta=2)({**logps, **uniform}, lengths, 0.0)[0]
    torch.testing.assert_close(Simpo(beta=2, gamma=0)(logps, lengths, 0.0)[0], normalized)


def test_it_needs_no_reference() -> None:
    assert not Simpo.needs_reference
    assert Simpo.consumes == "Pair"

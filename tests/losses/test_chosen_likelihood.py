"""SFT on the chosen responses, measured as DPO is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fusechat.losses.chosen_likelihood import ChosenLikelihood
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.parts import load_part


def test_a_rows_loss_is_the_summed_nats_of_the_chosen_response_and_metrics_are_per_token() -> None:
    names = ("chosen", "rejected", "reference_chosen", "reference_rejected")
    values = (-10.0, -20.0, -12.0, -17.0)
    logps = {name: torch.tensor([value]) for name, value in zip(names, values, strict=True)}
    lengths = {"chosen": torch.tensor([4]), "rejected": torch.tensor([3])}
    losses, metrics = ChosenLikelihood()(logps, lengths, 0.0)
    assert losses.tolist() == [10.0]
    # (-10 + 12) / 4 = 0.5 and (-20 + 17) / 3 = -1: margin 1.5.
    assert {name: value.item() for name, value in metrics.items()} == {
        "rewards_chosen": 0.5, "rewards_rejected": -1.0, "margins": 1.5, "accuracies": 1.0,
        "normalized_margins": 1.5, "normalized_accuracies": 1.0,
    }  # fmt: skip


def test_only_the_chosen_side_has_a_gradient() -> None:
    logps = {
        name: torch.tensor([-2.0, -9.0], requires_grad=True)
        for name in ("chosen", "rejected", "reference_chosen", "reference_rejected")
    }
    lengths = {side: torch.tensor([1, 3]) for side in ("chosen", "rejected")}
    losses, metrics = ChosenLikelihood()(logps, lengths, 0.0)
    torch.autograd.backward(losses.sum())
    assert logps["chosen"].grad is not None
    assert logps["chosen"].grad.tolist() == [-1.0, -1.0]
    assert all(logps[name].grad is None for name in logps if name != "chosen")
    assert not any(value.requires_grad for value in metrics.values())


@pytest.mark.parametrize("seed", range(3))
def test_its_metrics_are_those_of_length_normalized_dpo_at_beta_1(
    seed: int, random_pairs: Callable[[int], Any]
) -> None:
    logps, lengths = random_pairs(seed)
    ours = ChosenLikelihood()(logps, lengths, 0.0)[1]
    dpo = LengthNormalizedDpo(beta=1)(logps, lengths, 0.0)[1]
    assert list(ours) == list(dpo)
    assert all(torch.equal(ours[name], dpo[name]) for name in dpo)


def test_it_counts_the_tokens_of_chosen_responses_only_and_a_recipe_finds_it() -> None:
    found = load_part("losses", {"use": "chosen_likelihood"})
    assert found == ChosenLikelihood()
    assert (found.consumes, found.reduction, found.counted) == ("Pair", "tokens", ("chosen",))

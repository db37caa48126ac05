"""FuseRL's two losses: what the weights of rows do to a step."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from pydantic import ValidationError
from tests.losses.loss_inputs import Inputs, rows_of

from fusechat.losses.dpo import Dpo
from fusechat.losses.fusepo import FusePo
from fusechat.losses.fusesft import FuseSft
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.sft import Sft
from fusechat.losses.simpo import Simpo
from fusechat.parts import Loss

BASES = {"dpo": Dpo(), "length_normalized_dpo": LengthNormalizedDpo(), "simpo": Simpo()}


def step_loss(loss: Loss, inputs: Inputs, weights: torch.Tensor) -> float:
    """The loss of a step of these rows, divided as `Loss.reduction` says."""
    losses, _ = loss(*inputs, 0.0)
    tokens: Mapping[str, torch.Tensor] = inputs[1]
    counted = torch.stack([tokens[side] for side in loss.sides]).sum(0)
    divisors = {
        "rows": float(len(losses)), "tokens": counted.sum().item(),
        "weights": weights.sum().item(), "weighted_tokens": (weights * counted).sum().item(),
    }  # fmt: skip
    return (losses * weights).sum().item() / divisors[loss.reduction]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("weight", [0.25, 1.0, 3.0])
def test_fusepo_with_equal_weights_is_its_base(base: str, weight: float) -> None:
    loss = FusePo.model_validate({"base": base})
    inputs = rows_of(loss)
    even = torch.full((6,), weight, dtype=torch.float64)
    plain = step_loss(BASES[base], inputs, torch.ones(6, dtype=torch.float64))
    assert step_loss(loss, inputs, even) == pytest.approx(plain, rel=1e-12)
    assert {n: v.tolist() for n, v in loss(*inputs, 0.0)[1].items()} == {
        n: v.tolist() for n, v in BASES[base](*inputs, 0.0)[1].items()
    }


def test_a_weight_of_0_takes_a_pair_out_and_twice_the_weight_counts_twice() -> None:
    inputs = rows_of(FusePo())
    losses = Dpo()(*inputs, 0.0)[0]
    weights = torch.tensor([0.0, 2.0, 1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    expected = (2 * losses[1] + losses[2] + losses[5]).item() / 4
    assert step_loss(FusePo(), inputs, weights) == pytest.approx(expected, rel=1e-12)


def test_where_the_weights_of_each_prompt_sum_to_1_the_step_is_a_mean_over_prompts() -> None:
    inputs = rows_of(FusePo())
    losses = Dpo()(*inputs, 0.0)[0]
    # Two prompts of three sources each.
    weights = torch.tensor([0.5, 0.25, 0.25, 0.1, 0.2, 0.7], dtype=torch.float64)
    prompts = (weights * losses).reshape(2, 3).sum(1)
    assert step_loss(FusePo(), inputs, weights) == pytest.approx(prompts.mean().item(), rel=1e-12)


def test_fusesft_divides_by_weighted_tokens_so_that_equal_weights_are_sft() -> None:
    inputs = rows_of(FuseSft())
    even = torch.full((6,), 0.3, dtype=torch.float64)
    plain = step_loss(Sft(), inputs, torch.ones(6, dtype=torch.float64))
    assert step_loss(FuseSft(), inputs, even) == pytest.approx(plain, rel=1e-12)


def test_fusesft_worked_by_hand() -> None:
    # 2 nats over 1 token at weight 0.9, 9 over 3 at 0.1: (1.8 + 0.9) / (0.9 + 0.3) = 2.25.
    inputs: Inputs = (
        {"response": torch.tensor([-2.0, -9.0])}, {"response": torch.tensor([1, 3])}
    )  # fmt: skip
    assert step_loss(FuseSft(), inputs, torch.tensor([0.9, 0.1])) == pytest.approx(2.25)


def test_the_bases_settings_are_passed_on_and_others_refused() -> None:
    inputs = rows_of(FusePo())
    ours = FusePo(base="simpo", beta=3, gamma_beta_ratio=0.2)(*inputs, 0.0)[0]
    assert torch.equal(ours, Simpo(beta=3, gamma_beta_ratio=0.2)(*inputs, 0.0)[0])
    assert not FusePo(base="simpo").needs_reference
    assert FusePo().needs_reference
    with pytest.raises(ValidationError, match="belongs to base: simpo"):
        FusePo(gamma_beta_ratio=0.2)

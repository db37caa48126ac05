"""One step's gradients and sums: the same however the step is cut."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from training_tiny import FAMILIES, make_model, random_examples

from fusechat.losses.chosen_likelihood import ChosenLikelihood
from fusechat.losses.dpo import Dpo
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.sft import Sft
from fusechat.parts import Loss
from fusechat.training.engine import PaddedEngine, StepResult
from fusechat.training.examples import Example
from fusechat.training.ranks import Ranks
from fusechat.training.reference import Known

CPU = torch.device("cpu")
LOSSES = (Sft(), Dpo(beta=0.5), LengthNormalizedDpo(), ChosenLikelihood())


def _step(
    model: Any, loss: Loss, examples: list[Example], size: int | None, ranks: Ranks | None = None
) -> tuple[StepResult, list[torch.Tensor]]:
    engine = PaddedEngine(model, loss, ranks or Ranks(CPU), size)
    zeros = torch.full((len(examples), 2), -20.0)
    model.zero_grad()
    result = engine.backward(examples, Known(zeros if loss.needs_reference else None), 0.0)
    return result, [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.part_name())
@pytest.mark.parametrize("size", [1, 3, None])
def test_the_size_of_micro_batches_changes_nothing_beyond_rounding(
    loss: Loss, size: int | None
) -> None:
    model = make_model().double()
    examples = random_examples(11, 1 if loss.consumes == "Demonstration" else 2)
    whole, gradients = _step(model, loss, examples, 11)
    parts, others = _step(model, loss, examples, size)
    torch.testing.assert_close(parts.sums, whole.sums, rtol=1e-6, atol=1e-9)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.part_name())
@pytest.mark.parametrize("world", [2, 3, 9])
def test_the_ranks_shares_add_up_to_the_whole_step(loss: Loss, world: int) -> None:
    # With nine ranks and seven rows two ranks have none.
    model = make_model().double()
    examples = random_examples(7, 1 if loss.consumes == "Demonstration" else 2)
    whole, gradients = _step(model, loss, examples, 2)
    sums = torch.zeros_like(whole.sums)
    added = [torch.zeros_like(gradient) for gradient in gradients]
    for rank in range(world):
        result, shares = _one_rank(model, loss, examples, rank, world)
        assert result.names == whole.names
        sums += result.sums
        added = [total + share for total, share in zip(added, shares, strict=True)]
    torch.testing.assert_close(sums, whole.sums, rtol=1e-6, atol=1e-9)
    for one, other in zip(gradients, added, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


class _Unconnected(Ranks):
    """A rank whose sums stay its own, so that a test can add them up."""

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


def _one_rank(
    model: Any, loss: Loss, examples: list[Example], rank: int, world: int
) -> tuple[StepResult, list[torch.Tensor]]:
    return _step(model, loss, examples, 2, _Unconnected(CPU, rank, world))


def test_sft_averages_over_the_tokens_of_the_step_and_not_over_rows() -> None:
    model, examples = make_model(), random_examples(6, 1)
    result, _ = _step(model, Sft(), examples, 2)
    sums = PaddedEngine(model, Sft(), Ranks(CPU)).logps(examples)
    tokens = sum(example.response_tokens for example in examples)
    assert result.sums[0].item() == pytest.approx(-sums.sum().item() / tokens, rel=1e-6)


@pytest.mark.parametrize("size", [1, 3, None])
@pytest.mark.parametrize("family", FAMILIES)
def test_chosen_likelihood_is_sft_on_the_chosen_responses_whatever_is_rejected(
    family: str, size: int | None
) -> None:
    model, pairs = make_model(family).double(), random_examples(11, 2)
    pairs[3] = Example("heavy", pairs[3].texts, 2.5)
    chosen = [Example(p.prompt_id, p.texts[:1], p.weight) for p in pairs]
    wanted, gradients = _step(model, Sft(), chosen, 11)
    found, others = _step(model, ChosenLikelihood(), pairs, size)
    named = [dict(zip(r.names, r.sums.tolist(), strict=True)) for r in (wanted, found)]
    assert named[1]["loss"] == pytest.approx(named[0]["loss"], rel=1e-6)
    assert named[1]["logps_chosen"] == pytest.approx(named[0]["logps_response"], rel=1e-6)
    assert named[1]["logps_rejected"] < 0
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_a_rows_weight_scales_its_loss() -> None:
    model, (first, second) = make_model().double(), random_examples(2, 2)
    heavy = Example(first.prompt_id, first.texts, 3.0)
    none = Example(second.prompt_id, second.texts, 0.0)
    _, alone = _step(model, Dpo(), [first], 1)
    _, weighted = _step(model, Dpo(), [heavy, none], 2)
    for one, other in zip(alone, weighted, strict=True):
        # Three times one of two rows. Norms are in float32 inside the model.
        torch.testing.assert_close(1.5 * one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_changes_no_bit_and_leaves_dropout_off(
    family: str, tmp_path: Any
) -> None:
    from fusechat.training.models import load_model, without_bars

    with without_bars():
        make_model(family, attention_dropout=0.5).save_pretrained(tmp_path)
        models = [load_model(tmp_path, CPU, checkpointing) for checkpointing in (False, True)]
    assert any(getattr(module, "gradient_checkpointing", False) for module in models[1].modules())
    examples = random_examples(4, 2)
    (plain, expected), (saved, gradients) = (_step(m, Dpo(), examples, 4) for m in models)
    assert plain.sums.equal(saved.sums)
    assert all(one.equal(other) for one, other in zip(expected, gradients, strict=True))


def test_log_probabilities_come_back_in_the_order_of_the_rows() -> None:
    model, examples = make_model(), random_examples(9, 2)
    engine = PaddedEngine(model, Dpo(), Ranks(CPU), 4)
    together = engine.logps(examples)
    alone = torch.cat([engine.logps([example]) for example in examples])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert together.shape == (9, 2)


def test_at_the_reference_the_first_step_is_ln_2_exactly() -> None:
    model, examples = make_model(), random_examples(9, 2)
    for loss in (Dpo(), LengthNormalizedDpo()):
        engine = PaddedEngine(copy.deepcopy(model), loss, Ranks(CPU), 4)
        result = engine.backward(examples, Known(engine.logps(examples)), 0.0)
        means = dict(zip(result.names, result.sums.tolist(), strict=True))
        assert means["loss"] == pytest.approx(0.6931471805599453, rel=1e-7)
        assert means["margins"] == 0.0

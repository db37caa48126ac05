"""The packed engine against a plain padded forward, written out here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from packed_models import (
    ARCHITECTURES,
    CPU,
    everything_in_float64,
    model_of,
    packed_engine,
    plain_logps,
    rows_of,
)
from torch.nn.functional import logsigmoid

from fusechat.losses.dpo import Dpo
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.sft import Sft
from fusechat.parts import Loss
from fusechat.training.engine import PackedEngine, PaddedEngine, StepResult
from fusechat.training.examples import Example
from fusechat.training.ranks import Ranks
from fusechat.training.reference import Known

PlainLoss = Callable[[Any, list[Example]], torch.Tensor]
REFERENCE = (-20.0, -21.5)


def _plain_sft(model: Any, rows: list[Example]) -> torch.Tensor:
    weights = torch.tensor([row.weight for row in rows])
    tokens = sum(row.texts[0].length for row in rows)
    return -(weights * plain_logps(model, rows, 0)).sum() / tokens


def _plain_dpo(beta: float, per_token: bool) -> PlainLoss:
    def loss(model: Any, rows: list[Example]) -> torch.Tensor:
        rewards = []
        for side, reference in enumerate(REFERENCE):
            ratio = plain_logps(model, rows, side) - reference
            lengths = torch.tensor([row.texts[side].length for row in rows])
            rewards.append(beta * (ratio / lengths if per_token else ratio))
        weights = torch.tensor([row.weight for row in rows])
        return (weights * -logsigmoid(rewards[0] - rewards[1])).sum() / len(rows)

    return loss


LOSSES: dict[str, tuple[Loss, PlainLoss]] = {
    "sft": (Sft(), _plain_sft),
    "dpo": (Dpo(beta=0.1), _plain_dpo(0.1, per_token=False)),
    "ln-dpo": (LengthNormalizedDpo(beta=10), _plain_dpo(10, per_token=True)),
}


def _known(loss: Loss, rows: list[Example]) -> Known:
    if not loss.needs_reference:
        return Known()
    return Known(torch.tensor([REFERENCE] * len(rows), dtype=torch.float64))


def _gradients(model: Any) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def _step(engine: Any, rows: list[Example]) -> tuple[StepResult, torch.Tensor]:
    module = engine.module if isinstance(engine, PackedEngine) else engine.model
    module.zero_grad()
    result = engine.backward(rows, _known(engine.loss, rows), 0.0)
    return result, _gradients(module)


def _furthest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradient_are_those_of_a_plain_padded_forward(
    architecture: str, name: str, share: bool
) -> None:
    # Norms and rotations are in float32 inside transformers, and attention weights of Gemma-2.
    model, (loss, plain) = model_of(architecture).double(), LOSSES[name]
    rows = rows_of(7, len(loss.sides))
    wanted = plain(model, rows)
    torch.autograd.backward(wanted)
    gradients = _gradients(model)
    result, found = _step(packed_engine(model, loss, share=share), rows)
    near = 1e-6 if architecture == "gemma2" else 1e-10
    assert result.sums[0].item() == pytest.approx(wanted.item(), rel=near, abs=near)
    assert _furthest(found, gradients) < 1e-6


@pytest.mark.parametrize("same_prompts", [True, False])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_with_everything_in_float64_nothing_is_left_of_the_difference(
    architecture: str, name: str, same_prompts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the prompts of a row part midway, only what they begin with is shared.
    model, (loss, plain) = model_of(architecture).double(), LOSSES[name]
    everything_in_float64(monkeypatch)
    rows = rows_of(7, len(loss.sides), same_prompts=same_prompts)
    wanted = plain(model, rows)
    torch.autograd.backward(wanted)
    gradients = _gradients(model)
    result, found = _step(packed_engine(model, loss), rows)
    assert result.sums[0].item() == pytest.approx(wanted.item(), rel=1e-10, abs=1e-10)
    assert _furthest(found, gradients) < 1e-10


@pytest.mark.parametrize("name", LOSSES)
def test_budget_and_sharing_change_nothing_beyond_rounding(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything_in_float64(monkeypatch)
    model, (loss, _) = model_of("llama").double(), LOSSES[name]
    rows = rows_of(11, len(loss.sides))
    whole, gradients = _step(packed_engine(model, loss, 10_000, share=False), rows)
    for budget in (1, 37, 64, 200):
        for share in (True, False):
            result, found = _step(packed_engine(model, loss, budget, share), rows)
            assert result.names == whole.names
            torch.testing.assert_close(result.sums, whole.sums, rtol=1e-12, atol=1e-12)
            assert _furthest(found, gradients) < 1e-11


@pytest.mark.parametrize("name", LOSSES)
def test_in_float32_it_is_the_padded_engine_up_to_rounding(name: str) -> None:
    model, (loss, _) = model_of("llama"), LOSSES[name]
    rows = rows_of(9, len(loss.sides))
    padded, gradients = _step(PaddedEngine(model, loss, Ranks(CPU)), rows)
    packed, found = _step(packed_engine(model, loss), rows)
    torch.testing.assert_close(packed.sums, padded.sums, rtol=1e-5, atol=1e-5)
    assert _furthest(found, gradients) < 1e-5


def test_one_row_at_a_time_and_eight_together_train_along_the_same_curve() -> None:
    rows = rows_of(16, 2)
    curves = []
    for budget in (1, 10_000):
        model = model_of("llama")
        engine = packed_engine(model, LengthNormalizedDpo(), budget)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        reference, losses = engine.logps(rows), []
        for step in range(8):
            optimizer.zero_grad()
            places = range(8 * (step % 2), 8 * (step % 2) + 8)
            known = Known(reference).rows(places)
            result = engine.backward([rows[place] for place in places], known, 0.0)
            losses.append(result.sums[0].item())
            optimizer.step()
        curves.append(losses)
    assert curves[0] == pytest.approx(curves[1], rel=2e-4)
    assert curves[0][-1] < curves[0][0] - 0.1


class _Unconnected(Ranks):
    """A rank whose sums stay its own, so that a test can add them up."""

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


@pytest.mark.parametrize("lockstep", [True, False])
@pytest.mark.parametrize("world", [2, 3, 9])
def test_the_ranks_shares_add_up_to_the_whole_step(
    world: int, lockstep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With nine ranks and seven rows two ranks have none; in lockstep they run an empty bin.
    everything_in_float64(monkeypatch)
    model, loss, rows = model_of("llama").double(), LengthNormalizedDpo(), rows_of(7, 2)
    whole, gradients = _step(packed_engine(model, loss), rows)
    sums, added, forwards = torch.zeros_like(whole.sums), torch.zeros_like(gradients), []
    for rank in range(world):
        engine = packed_engine(model, loss, ranks=_Unconnected(CPU, rank, world))
        engine.lockstep = lockstep
        calls: list[int] = []
        watch = engine.module.register_forward_hook(lambda *call, seen=calls: seen.append(1))
        model.zero_grad()
        result = engine.backward(rows, _known(loss, rows), 0.0)
        watch.remove()
        for parameter in model.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        sums, added = sums + result.sums, added + _gradients(model)
        forwards.append(len(calls))
    torch.testing.assert_close(sums, whole.sums, rtol=1e-12, atol=1e-12)
    assert _furthest(added, gradients) < 1e-12
    assert not lockstep or len(set(forwards)) == 1


@pytest.mark.parametrize("loss", [Dpo(), LengthNormalizedDpo()], ids=lambda loss: loss.part_name())
@pytest.mark.parametrize("share", [True, False])
def test_at_its_own_reference_the_loss_is_ln_2_to_the_last_bit(loss: Loss, share: bool) -> None:
    rows = [Example(row.prompt_id, row.texts, 1.0) for row in rows_of(8, 2)]
    engine = packed_engine(model_of("gemma2"), loss, share=share)
    result = engine.backward(rows, Known(engine.logps(rows)), 0.0)
    named = dict(zip(result.names, result.sums.tolist(), strict=True))
    assert named["loss"] == pytest.approx(0.6931471805599453, rel=1e-15)
    assert named["margins"] == 0.0


@pytest.mark.parametrize("share", [True, False])
def test_log_probabilities_come_back_in_the_order_of_rows_and_sides(share: bool) -> None:
    model, rows = model_of("qwen2").double(), rows_of(9, 2)
    found = packed_engine(model, Dpo(), share=share).logps(rows)
    plain = torch.stack([plain_logps(model, rows, side) for side in (0, 1)], dim=1)
    assert found.shape == (9, 2)
    assert not found.requires_grad
    torch.testing.assert_close(found, plain.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_gradient_checkpointing_changes_no_bit(architecture: str) -> None:
    from fusechat.training.models import _checkpoint_gradients

    rows = rows_of(5, 2)
    plain, saving = model_of(architecture), model_of(architecture)
    _checkpoint_gradients(saving)
    one, gradients = _step(packed_engine(plain, Dpo()), rows)
    other, found = _step(packed_engine(saving, Dpo()), rows)
    assert one.sums.equal(other.sums)
    assert found.equal(gradients)


def test_frozen_weights_get_no_gradient_and_the_others_the_same_one() -> None:
    rows = rows_of(5, 2)
    whole, partly = model_of("llama"), model_of("llama")
    partly.lm_head.weight.requires_grad_(False)
    partly.model.embed_tokens.weight.requires_grad_(False)
    for model in (whole, partly):
        packed_engine(model, Dpo()).backward(rows, _known(Dpo(), rows), 0.0)
    for (name, one), other in zip(whole.named_parameters(), partly.parameters(), strict=True):
        if other.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6, msg=name)
        else:
            assert other.grad is None


def test_bfloat16_autocast_leaves_the_output_layer_in_float32() -> None:
    model, rows = model_of("llama"), rows_of(6, 2)
    exact = packed_engine(model, Dpo()).logps(rows)
    engine = packed_engine(model, Dpo())
    engine.module.autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    rounded = engine.logps(rows)
    assert 0 < (rounded - exact).abs().max() < 0.5
    hidden = torch.randn(3, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (hidden @ model.lm_head.weight.T).dtype == torch.bfloat16
        inside = _logps_of(model, hidden)
    assert inside.equal(_logps_of(model, hidden))


def _logps_of(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    from fusechat.packed.head import Head, token_logps

    return token_logps(hidden, model.lm_head.weight, torch.tensor([1, 2, 3]), Head())


def test_the_model_is_as_before_after_a_step_and_after_an_error() -> None:
    model, rows = model_of("llama"), rows_of(3, 2)
    before = model(input_ids=torch.arange(9)[None]).logits
    engine = packed_engine(copy.deepcopy(model), Dpo())
    engine.logps(rows)
    broken = copy.deepcopy(rows)
    broken[0].texts[0].ids[:] = 10**6
    with pytest.raises(IndexError):
        engine.logps(broken)
    assert engine.module.network(input_ids=torch.arange(9)[None]).logits.equal(before)

"""What every loss keeps, found by file: a new loss is under test without an edit here."""

from __future__ import annotations

import inspect
import re

import pytest
import torch
from tests.losses.loss_inputs import rows_of

from fusechat.parts import Loss, load_part, part_names

REFERENCE_LOSSES = ("dpo", "length_normalized_dpo", "wrpo", "fusepo", "infifpo")


@pytest.fixture(params=part_names("losses"))
def loss(request: pytest.FixtureRequest) -> Loss:
    found = load_part("losses", {"use": request.param})
    assert isinstance(found, Loss)
    return found


def _good(side: str) -> bool:
    return side != "rejected"


def test_it_says_its_formula_and_where_it_is_from(loss: Loss) -> None:
    text = inspect.getdoc(type(loss)) or ""
    assert re.search(r"`L = .+`", text, re.DOTALL), text
    assert re.search(r"arXiv\s+\d{4}\.\d{5}", text), text


def test_gradients_raise_chosen_responses_and_lower_rejected_ones(loss: Loss) -> None:
    logps, lengths = rows_of(loss)
    policy = {side: logps[side].clone().requires_grad_() for side in loss.sides}
    losses, _ = loss({**logps, **policy}, lengths, 0.5)
    torch.autograd.backward(losses.sum())
    ignored = [side for side in loss.sides if loss.counted is not None and side not in loss.counted]
    for side in set(loss.sides) - set(ignored):
        gradient = policy[side].grad
        assert gradient is not None
        assert (gradient < 0).all() if _good(side) else (gradient > 0).all()
    assert all(policy[side].grad is None for side in ignored)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_equal_finite_differences_in_float64(loss: Loss, seed: int) -> None:
    logps, lengths = rows_of(loss, seed=seed)

    def value(*policy: torch.Tensor) -> torch.Tensor:
        return loss({**logps, **dict(zip(loss.sides, policy, strict=True))}, lengths, 0.7)[0]

    assert torch.autograd.gradcheck(value, [logps[s].clone().requires_grad_() for s in loss.sides])


@pytest.mark.parametrize("extreme", [0.0, -1e-30, -1e6, -1e30])
def test_extreme_log_probabilities_give_finite_losses_gradients_and_metrics(
    loss: Loss, extreme: float
) -> None:
    for name in rows_of(loss)[0]:
        logps, lengths = rows_of(loss)
        logps = {key: value.float() for key, value in logps.items()}
        if loss.part_name() == "ipo" and extreme < -1e18:
            continue  # the square of such a number is not a float
        logps[name] = torch.full_like(logps[name], extreme)
        policy = {side: logps[side].clone().requires_grad_() for side in loss.sides}
        losses, metrics = loss({**logps, **policy}, lengths, 0.5)
        torch.autograd.backward(losses.sum())
        assert torch.isfinite(losses).all(), name
        assert all(torch.isfinite(value).all() for value in metrics.values()), name
        for leaf in policy.values():
            assert leaf.grad is None or torch.isfinite(leaf.grad).all(), name


def test_responses_without_tokens_give_finite_losses(loss: Loss) -> None:
    logps, lengths = rows_of(loss)
    empty = {side: torch.zeros_like(count) for side, count in lengths.items()}
    nothing = {
        name: torch.where(value.isnan(), value, torch.zeros_like(value))
        for name, value in logps.items()
    }
    assert torch.isfinite(loss(nothing, empty, 0.0)[0]).all()


def test_a_rows_loss_and_metrics_do_not_depend_on_the_rows_beside_it(loss: Loss) -> None:
    logps, lengths = rows_of(loss)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    losses, metrics = loss(logps, lengths, 0.5)
    shuffled, others = loss(
        {name: value[order] for name, value in logps.items()},
        {name: value[order] for name, value in lengths.items()},
        0.5,
    )
    assert torch.equal(shuffled, losses[order])
    assert {name: value[order].tolist() for name, value in metrics.items()} == {
        name: value.tolist() for name, value in others.items()
    }


def test_metrics_are_of_each_row_without_gradients_and_named_alike_for_no_rows(loss: Loss) -> None:
    logps, lengths = rows_of(loss)
    policy = {side: logps[side].clone().requires_grad_() for side in loss.sides}
    losses, metrics = loss({**logps, **policy}, lengths, 0.5)
    assert losses.shape == (6,)
    assert all(value.shape == (6,) for value in metrics.values())
    assert not any(value.requires_grad for value in metrics.values())
    none = {name: value[:0] for name, value in logps.items()}
    empty, named = loss(none, {name: value[:0] for name, value in lengths.items()}, 0.0)
    assert empty.shape == (0,)
    assert list(named) == list(metrics)


def test_a_loss_of_pairs_logs_the_same_rewards_as_the_others(loss: Loss) -> None:
    if "rejected" not in loss.sides:
        assert loss(*rows_of(loss), 0.0)[1] == {}
        return
    metrics = loss(*rows_of(loss), 0.5)[1]
    wanted = {"rewards_chosen", "rewards_rejected", "margins", "accuracies"}
    assert wanted <= metrics.keys()
    assert ("normalized_margins" in metrics) == loss.needs_reference
    rewards = metrics["rewards_chosen"] - metrics["rewards_rejected"]
    torch.testing.assert_close(metrics["margins"], rewards)
    assert metrics["accuracies"].tolist() == (rewards > 0).double().tolist()


@pytest.mark.parametrize("name", REFERENCE_LOSSES)
def test_where_policy_reference_and_sources_agree_the_loss_is_ln_2(name: str) -> None:
    loss = load_part("losses", {"use": name})
    assert isinstance(loss, Loss)
    logps, lengths = rows_of(loss)
    for side in loss.sides:
        logps[f"reference_{side}"] = logps[side]
        if loss.needs_sources:
            per_token = (logps[side] / lengths[side])[:, None]
            logps[f"sources_{side}"] = per_token * lengths[f"sources_{side}"].clamp(min=1)
    losses, metrics = loss(logps, lengths, 0.3)
    torch.testing.assert_close(losses, torch.full_like(losses, 2.0).log())
    # Beyond rounding: a mean that is multiplied by its tokens again may differ in its last bit.
    assert metrics["margins"].abs().max().item() < 1e-12


def test_a_loss_that_needs_a_reference_says_so_and_others_never_read_it(loss: Loss) -> None:
    logps, lengths = rows_of(loss)
    policy_only = {n: v for n, v in logps.items() if not n.startswith("reference_")}
    if loss.needs_reference:
        with pytest.raises(KeyError, match="reference_"):
            loss(policy_only, lengths, 0.0)
    else:
        assert torch.equal(loss(policy_only, lengths, 0.0)[0], loss(logps, lengths, 0.0)[0])

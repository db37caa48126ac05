"""Every loss in a real step of a tiny model: weights, three sides, source log-probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.training.training_tiny import make_model, random_examples

from fusechat.losses.dpo import Dpo
from fusechat.losses.fusepo import FusePo
from fusechat.losses.fusesft import FuseSft
from fusechat.losses.sft import Sft
from fusechat.parts import Loss, load_part, part_names
from fusechat.training.engine import PaddedEngine
from fusechat.training.examples import Example
from fusechat.training.ranks import Ranks
from fusechat.training.reference import Known

CPU = torch.device("cpu")
ROWS = 7


@pytest.fixture(params=part_names("losses"))
def loss(request: pytest.FixtureRequest) -> Loss:
    found = load_part("losses", {"use": request.param})
    assert isinstance(found, Loss)
    return found


def examples_of(loss: Loss, weights: tuple[float, ...]) -> list[Example]:
    rows = random_examples(ROWS, len(loss.sides))
    return [replace(row, weight=weight) for row, weight in zip(rows, weights, strict=True)]


def known_of(loss: Loss, examples: list[Example]) -> Known:
    """A reference of 2 nats a token, and two sources, of which one is silent on every other row."""
    tokens = torch.tensor([[float(t.length) for t in e.texts] for e in examples]).double()
    if not loss.needs_reference:
        return Known()
    if not loss.needs_sources:
        return Known(-2.0 * tokens)
    counts = torch.stack([tokens + 1, tokens + 3], dim=-1)
    logps = counts * torch.tensor([-1.5, -3.0], dtype=torch.float64)
    counts[::2, :, 1], logps[::2, :, 1] = 0, torch.nan
    return Known(-2.0 * tokens, logps, counts)


def step_of(loss: Loss, examples: list[Example], size: int) -> tuple[dict[str, float], Any]:
    model = make_model().double()
    known = known_of(loss, examples)
    result = PaddedEngine(model, loss, Ranks(CPU), size).backward(examples, known, 0.5)
    gradients = [parameter.grad for parameter in model.parameters()]
    return dict(zip(result.names, result.sums.tolist(), strict=True)), gradients


EVEN, UNEVEN = (1.0,) * ROWS, (0.5, 0.25, 0.25, 0.1, 0.9, 1.0, 0.0)


def test_a_step_cut_into_single_rows_is_the_whole_step(loss: Loss) -> None:
    examples = examples_of(loss, UNEVEN)
    whole, gradients = step_of(loss, examples, ROWS)
    parts, others = step_of(loss, examples, 1)
    assert parts == {name: pytest.approx(v, rel=1e-6, abs=1e-9) for name, v in whole.items()}
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_row_of_weight_0_gives_no_gradient(loss: Loss) -> None:
    examples = examples_of(loss, UNEVEN)
    _, gradients = step_of(loss, examples, ROWS)
    _, without = step_of(loss, examples[:-1], ROWS)
    counted = {"rows": ROWS / (ROWS - 1), "weights": 1.0, "weighted_tokens": 1.0}
    if loss.reduction not in counted:
        return  # tokens of the row are counted, whatever its weight
    for one, other in zip(gradients, without, strict=True):
        # Another width of the batch rounds otherwise: these models' softmax is float32 inside.
        torch.testing.assert_close(one * counted[loss.reduction], other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("weighted", "plain"), [(FusePo(beta=0.3), Dpo(beta=0.3)), (FuseSft(), Sft())]
)
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_losses_of_fuserl_with_equal_weights_are_the_plain_ones(
    weighted: Loss, plain: Loss, weight: float
) -> None:
    ours, gradients = step_of(weighted, examples_of(weighted, (weight,) * ROWS), 2)
    theirs, others = step_of(plain, examples_of(plain, EVEN), 2)
    assert ours == {name: pytest.approx(value, rel=1e-9) for name, value in theirs.items()}
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_fusepo_weighs_each_pair_by_its_source() -> None:
    examples = examples_of(FusePo(), UNEVEN)
    alone = [step_of(Dpo(), [row], 1)[0]["loss"] for row in examples_of(Dpo(), EVEN)]
    expected = sum(w * value for w, value in zip(UNEVEN, alone, strict=True)) / sum(UNEVEN)
    assert step_of(FusePo(), examples, 3)[0]["loss"] == pytest.approx(expected, rel=1e-9)

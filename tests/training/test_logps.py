"""Summed response log-probabilities against the plainest possible computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training_tiny import FAMILIES, make_model, random_examples

from fusechat.training.batches import pad
from fusechat.training.examples import Example
from fusechat.training.logps import response_logps

CPU = torch.device("cpu")
NEAR = {"gemma2": 1e-6}
"""Gemma-2 computes attention weights and norms in float32, whatever the model is in."""


def _plainly(model: Any, examples: list[Example]) -> torch.Tensor:
    """One text at a time, unpadded, all positions, the model's own logits."""
    sums = []
    for side in range(len(examples[0].texts)):
        for example in examples:
            text = example.texts[side]
            ids = torch.tensor(text.ids[None].astype("int64"))
            logps = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.log_softmax(-1)
            places = range(text.start, len(text.ids))
            sums.append(sum(logps[0, place - 1, ids[0, place]] for place in places))
    return torch.stack(sums)


@pytest.mark.parametrize("family", FAMILIES)
def test_padded_batches_give_what_single_texts_give(family: str) -> None:
    # Gemma-2 caps its logits and slides its window over 8 tokens, as Mistral does here.
    model = make_model(family).double()
    examples = random_examples(6, 2)
    ours = response_logps(model, pad(examples, CPU))
    near = NEAR.get(family, 1e-10)
    torch.testing.assert_close(ours, _plainly(model, examples), rtol=near, atol=near)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_those_of_single_texts(family: str) -> None:
    examples = random_examples(4, 1)
    models = [make_model(family).double() for _ in range(2)]
    torch.autograd.backward(response_logps(models[0], pad(examples, CPU)).sum())
    torch.autograd.backward(_plainly(models[1], examples).sum())
    for ours, plain in zip(models[0].parameters(), models[1].parameters(), strict=True):
        near = 10 * NEAR.get(family, 1e-9)
        torch.testing.assert_close(ours.grad, plain.grad, rtol=near, atol=near)


def test_gemmas_cap_on_logits_is_not_lost() -> None:
    examples = random_examples(3, 1)
    capped, free = make_model("gemma2"), make_model("gemma2", final_logit_softcapping=None)
    batch = pad(examples, CPU)
    assert not torch.allclose(response_logps(capped, batch), response_logps(free, batch))


def test_only_response_positions_are_projected_to_the_vocabulary() -> None:
    model, batch = make_model(), pad(random_examples(5, 2), CPU)
    seen: list[torch.Size] = []
    model.lm_head.register_forward_hook(lambda *call: seen.append(call[2].shape))
    response_logps(model, batch)
    assert seen == [torch.Size([1, len(batch.targets), model.config.vocab_size])]


def test_the_model_is_as_before_also_after_an_error() -> None:
    model, batch = make_model(), pad(random_examples(2, 1), CPU)
    response_logps(model, batch)
    broken = pad(random_examples(2, 1), CPU)
    broken.input_ids.fill_(10**6)
    with pytest.raises(IndexError):
        response_logps(model, broken)
    assert "forward" not in vars(model.lm_head)
    assert model(input_ids=batch.input_ids).logits.shape[:2] == batch.input_ids.shape


def test_under_bfloat16_autocast_the_head_is_not_rounded() -> None:
    model, batch = make_model(), pad(random_examples(4, 2), CPU)
    seen: list[torch.dtype] = []
    model.lm_head.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = response_logps(model, batch)
    assert seen == [torch.float32]
    assert rounded.dtype == torch.float64
    torch.testing.assert_close(rounded, response_logps(model, batch), rtol=0.05, atol=0.5)

"""From a model and a micro-batch to summed response log-probabilities.

The model's own `forward` makes the logits, whatever it does around its head (Gemma-2 caps
them, Cohere and Granite scale them); only the hidden states that enter the head are picked,
so that prompts and padding are never projected to the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fusechat.training.batches import MicroBatch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def response_logps(model: PreTrainedModel, batch: MicroBatch) -> torch.Tensor:
    """Log-probability of each text's response, nats, summed over its tokens, float64 `[texts]`.

    The softmax is in float32 (in float64 where the model is). The sums are in float64: what a
    preference loss sees is a small difference of two of them, times beta.
    """
    import torch

    with _head_sees_only(model, batch.positions):
        logits = model(input_ids=batch.input_ids, use_cache=False).logits[0]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logps = -torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")
    sums = torch.zeros(len(batch.lengths), dtype=torch.float64, device=logps.device)
    return sums.index_add(0, batch.text_of, logps.double())


@contextmanager
def _head_sees_only(model: PreTrainedModel, positions: torch.Tensor) -> Iterator[None]:
    """Inside, the head projects only `positions` of the flattened hidden states, unrounded."""
    import torch

    head = model.get_output_embeddings()
    whole, own = head.forward, vars(head).get("forward")

    def chosen_only(hidden: torch.Tensor) -> torch.Tensor:
        picked = hidden.flatten(0, 1)[positions].to(head.weight.dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            logits: torch.Tensor = whole(picked)
        return logits.unsqueeze(0)

    head.forward = chosen_only
    try:
        yield
    finally:
        if own is None:
            del head.forward
        else:
            head.forward = own

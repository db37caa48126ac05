"""A model over bins: token ids in, summed log-probabilities of whole responses out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fusechat.packed.attention import Backend, no_mask, packed
from fusechat.packed.head import Head, token_logps
from fusechat.packed.layout import Segment
from fusechat.training.packing import Layout


@dataclass(frozen=True)
class Bin:
    """A `Layout` as tensors on a device; the fields mean the same."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    predictors: torch.Tensor
    targets: torch.Tensor
    text_of: torch.Tensor
    lengths: torch.Tensor
    weights: torch.Tensor
    segments: Sequence[Segment]


def to_device(layout: Layout, device: torch.device) -> Bin:
    """All whole numbers go over in one piece."""
    numbers = (
        layout.ids, layout.positions, layout.predictors, layout.targets, layout.text_of,
        layout.lengths,
    )  # fmt: skip
    moved = torch.from_numpy(np.concatenate(numbers)).to(device)
    parts = torch.split(moved, [len(array) for array in numbers])
    ids, places, predictors, targets, text_of, lengths = parts
    return Bin(
        input_ids=ids.unsqueeze(0), position_ids=places.unsqueeze(0), predictors=predictors,
        targets=targets, text_of=text_of, lengths=lengths,
        weights=torch.from_numpy(layout.weights).to(device), segments=layout.segments,
    )  # fmt: skip


class PackedModel(torch.nn.Module):
    """A transformers model that is fed bins; its only child is that model, under `network`.

    Backbone and output layer run in one `forward`, so that hooks on this module and on the
    decoder's layers see every weight that a pass reads (FSDP gathers there).
    """

    def __init__(
        self,
        network: torch.nn.Module,
        head: Head,
        backend: Backend,
        autocast: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.head, self.backend, self.autocast = head, backend, autocast
        # Not registered: the model's own modules, found once.
        self._own: dict[str, Any] = {"model": plain_model(network)}

    def forward(self, packed_bin: Bin) -> torch.Tensor:
        """Log-probability of each text's response, nats, summed over its tokens, float64 `[t]`."""
        model = self._own["model"]
        layer = model.get_output_embeddings()
        picked = self._hidden(model.get_decoder(), packed_bin)[packed_bin.predictors]
        logps = token_logps(picked, layer.weight, packed_bin.targets, self.head, layer.bias)
        texts = len(packed_bin.lengths)
        sums = torch.zeros(texts, dtype=torch.float64, device=logps.device)
        return sums.index_add(0, packed_bin.text_of, logps.double())

    def _hidden(self, decoder: Any, packed_bin: Bin) -> torch.Tensor:
        """Hidden states `[tokens, width]` as they enter the output layer."""
        mixed = nullcontext() if self.autocast is None else self.autocast()
        with mixed, packed(decoder, packed_bin.segments, self.backend):
            hidden: torch.Tensor = decoder(
                input_ids=packed_bin.input_ids,
                position_ids=packed_bin.position_ids,
                attention_mask=no_mask(packed_bin.input_ids.device),
                use_cache=False,
            ).last_hidden_state
        return hidden[0]


def plain_model(network: Any) -> Any:
    """The transformers model itself, where PEFT has wrapped it."""
    unwrap = getattr(network, "get_base_model", None)
    return network if unwrap is None else unwrap()

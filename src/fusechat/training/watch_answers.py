"""Having the model that is being trained answer prompts, and leaving it as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fusechat.training.engine import Engine
from fusechat.training.ranks import Ranks

if TYPE_CHECKING:
    import torch

BATCH_TOKENS = 32768
"""Tokens of prompts and answers side by side: their keys and values have to find room beside the
optimizer (4 GB for an 8B model of Llama-3)."""

Ids = Sequence[int]


@dataclass(frozen=True)
class Answers:
    """How prompts are answered."""

    max_new_tokens: int
    """Tokens at which an answer is cut."""
    ends: tuple[int, ...]
    """Ids that end an answer; each answer has its own at its end unless it was cut."""

    def drawn(
        self, engine: Engine, ranks: Ranks, prompts: Sequence[Ids], seed: int
    ) -> list[list[int]]:
        """One answer to each prompt, drawn from the model's whole distribution (temperature 1, no
        tail cut off) by `seed`; the same on every rank."""
        import torch

        network, autocast = network_of(engine)
        sharded = is_sharded(network)
        out = torch.zeros(len(prompts), self.max_new_tokens, dtype=torch.int64)
        if ranks.main or sharded:
            with as_it_was(network, ranks.device, seed), autocast, unsharded(engine):
                for places in self._batches(prompts):
                    found = self._generate(network, [prompts[place] for place in places], sharded)
                    out[places, : found.shape[1]] = found.cpu() + 1
        if ranks.world > 1:  # of every rank the answers of the first, so that all see the same
            out = ranks.sum_((out if ranks.main else out * 0).to(ranks.device)).cpu()
        return [self._until_end((row[row > 0] - 1).tolist()) for row in out]

    def cut(self, answer: Ids) -> bool:
        """Whether an answer was cut before its end."""
        return not answer or answer[-1] not in self.ends

    def _batches(self, prompts: Sequence[Ids]) -> Iterator[list[int]]:
        """Places of prompts of like length that are answered side by side."""
        order = sorted(range(len(prompts)), key=lambda place: (-len(prompts[place]), place))
        while order:
            room = BATCH_TOKENS // (len(prompts[order[0]]) + self.max_new_tokens)
            yield order[: max(1, room)]
            order = order[max(1, room) :]

    def _generate(self, network: Any, prompts: Sequence[Ids], sharded: bool) -> torch.Tensor:
        """New ids `[prompts, tokens]`; what stands after an end means nothing."""
        import torch

        width = max(map(len, prompts))
        context = getattr(network.config.get_text_config(), "max_position_embeddings", None)
        most = min(self.max_new_tokens, (context or width + self.max_new_tokens) - width)
        ids = np.zeros((len(prompts), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = 1
        device = network.device
        if most < 1:
            return torch.zeros(len(prompts), 0, dtype=torch.int64, device=device)
        config = network.generation_config
        config.max_new_tokens, config.eos_token_id = most, list(self.ends)
        made: torch.Tensor = network.generate(
            torch.from_numpy(ids).to(device), attention_mask=torch.from_numpy(mask).to(device),
            generation_config=config, synced_gpus=sharded,
        )  # fmt: skip
        return made[:, width:]

    def _until_end(self, ids: list[int]) -> list[int]:
        ends = [place for place, token in enumerate(ids) if token in self.ends]
        return ids[: ends[0] + 1] if ends else ids


def network_of(engine: Any) -> tuple[Any, AbstractContextManager[object]]:
    """The transformers model inside an engine, and the context that it computes in."""
    inner = getattr(engine, "module", engine)
    network = getattr(inner, "network", None) or engine.model
    autocast = getattr(inner, "autocast", None)
    return network, nullcontext() if autocast is None else autocast()


def is_sharded(network: Any) -> bool:
    """Whether each rank has only its part of the weights."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in network.parameters())


@contextmanager
def unsharded(engine: Any) -> Iterator[None]:
    """Inside, the weights outside of the layers are there, as when a step's forward runs."""
    module = getattr(engine, "module", None) or engine.model
    if not hasattr(module, "unshard"):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


@contextmanager
def as_it_was(network: Any, device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Inside, the model neither trains nor draws by settings of its own; afterwards nothing has
    changed: random states, modes of its modules, settings of generation.

    `seed`: of what is drawn inside, from the model's whole distribution; None: nothing is.
    """
    import torch
    from transformers import GenerationConfig

    on_device = [device] if device.type != "cpu" else []
    modes = [(module, module.training) for module in network.modules()]
    config = getattr(network, "generation_config", None)
    with (
        torch.random.fork_rng(on_device, device_type=device.type if on_device else "cuda"),
        torch.no_grad(),
    ):
        if seed is not None:
            torch.manual_seed(seed)
        for module, _ in modes:
            module.training = False
        network.generation_config = GenerationConfig(
            do_sample=True, temperature=1.0, top_p=1.0, top_k=0, num_beams=1,
            repetition_penalty=1.0, pad_token_id=0,
        )  # fmt: skip
        try:
            yield
        finally:
            network.generation_config = config
            for module, training in modes:
                module.training = training

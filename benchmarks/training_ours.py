"""Ours in `training.py`: whole optimizer steps of the packed engine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from training_peers import BETA
from training_work import Setup

from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.sft import Sft
from fusechat.packed.attention import choose
from fusechat.packed.head import head_of
from fusechat.training.engine import PackedEngine
from fusechat.training.engines import BIN_TOKENS
from fusechat.training.examples import Example
from fusechat.training.packed_model import PackedModel
from fusechat.training.ranks import Ranks
from fusechat.training.reference import Known


class Ours:
    """Steps of our engine over a model and its reference."""

    def __init__(self, setup: Setup, model: Any, reference: Any, tokens: int | None) -> None:
        self.setup, self.model, self.reference, self.tokens = setup, model, reference, tokens
        self.engines: dict[bool, list[Any]] = {}
        self.loss = Sft() if setup.sides == 1 else LengthNormalizedDpo(beta=BETA)

    def use(self, share: bool) -> None:
        """Share each row's prompt or not, from here on."""
        for model in (self.model, self.reference):
            if model is not None:
                model.gradient_checkpointing_disable()
                model.eval()
                model.set_attn_implementation("eager" if "gemma2" in self.setup.config else "sdpa")
        if share not in self.engines:
            models = (self.model, self.reference)
            self.engines[share] = [m if m is None else self._engine(m, share) for m in models]
        self.engine, self.before = self.engines[share]

    def _engine(self, model: Any, share: bool) -> PackedEngine:
        setup = self.setup
        head = head_of(model, halved=setup.autocast)
        assert head is not None
        half = setup.autocast or setup.dtype == torch.bfloat16
        dtype = torch.bfloat16 if half else setup.dtype
        backend = choose(model.get_decoder(), setup.device, dtype, "auto")
        autocast = None
        if setup.autocast:
            autocast = partial(torch.autocast, setup.device.type, dtype=torch.bfloat16)
        tokens = self.tokens or BIN_TOKENS.get(setup.device.type, BIN_TOKENS["cuda"])
        module = PackedModel(model, head, backend, autocast)
        return PackedEngine(module, self.loss, Ranks(setup.device), tokens, share)

    def reference_pass(self, step: Sequence[Example]) -> Known:
        """The reference's log-probabilities of a step."""
        return Known(self.before.logps(step) if self.setup.sides == 2 else None)

    def step(self, step: Sequence[Example], known: Known) -> torch.Tensor:
        """Leave the gradient of the step on the parameters; returns its loss."""
        return self.engine.backward(step, known, 0.0).sums[0]

"""Tiny models of every architecture, packed engines, and a plain forward to hold them against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from training_tiny import make_model

from fusechat.packed.attention import BUCKETS
from fusechat.packed.head import head_of
from fusechat.parts import Loss
from fusechat.training.engine import PackedEngine
from fusechat.training.examples import Example, Text
from fusechat.training.packed_model import PackedModel
from fusechat.training.ranks import Ranks

CPU = torch.device("cpu")
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "mistral")


def model_of(architecture: str, seed: int = 0) -> Any:
    """Windows are longer than all texts, except where a family's own test model has a short one."""
    if architecture != "qwen3":
        return make_model(architecture, seed)
    torch.manual_seed(seed)
    config = transformers.Qwen3Config(
        vocab_size=66, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=128,
        initializer_range=0.3, tie_word_embeddings=True, pad_token_id=0,
    )  # fmt: skip
    return transformers.Qwen3ForCausalLM(config).eval()


def packed_engine(
    model: Any, loss: Loss, budget: int = 60, share: bool = True, ranks: Ranks | None = None
) -> PackedEngine:
    head = head_of(model)
    assert head is not None
    return PackedEngine(PackedModel(model, head, BUCKETS), loss, ranks or Ranks(CPU), budget, share)


def rows_of(count: int, sides: int, seed: int = 0, same_prompts: bool = True) -> list[Example]:
    """Rows whose texts begin with one prompt; without `same_prompts` with two that part midway.

    Weights are 1, 2 and 3.
    """
    draw = np.random.default_rng(seed)

    def ids(least: int, most: int) -> np.ndarray[Any, Any]:
        return draw.integers(6, 66, draw.integers(least, most)).astype(np.int32)

    rows = []
    for number in range(count):
        prompt = ids(2, 9)
        texts = []
        for _ in range(sides):
            asked = prompt if same_prompts else np.concatenate([prompt, ids(1, 4)])
            texts.append(Text(np.concatenate([asked, ids(1, 15)]), len(asked)))
        rows.append(Example(f"p{number}", tuple(texts), 1.0 + number % 3))
    return rows


def plain_logps(model: Any, rows: Sequence[Example], side: int) -> torch.Tensor:
    """The model's own forward over one batch padded on the right; sums over response tokens.

    A causal model needs no mask for that.
    """
    texts = [row.texts[side] for row in rows]
    width = max(len(text.ids) for text in texts)
    ids = torch.zeros(len(texts), width, dtype=torch.int64)
    counted = torch.zeros(len(texts), width - 1, dtype=torch.bool)
    for number, text in enumerate(texts):
        ids[number, : len(text.ids)] = torch.from_numpy(text.ids)
        counted[number, text.start - 1 : len(text.ids) - 1] = True
    logits = model(input_ids=ids).logits
    logps = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
    out: torch.Tensor = (logps * counted).sum(1)
    return out


def everything_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers computes norms, rotations and softmaxes in float32 by name; here it cannot."""
    monkeypatch.setattr(torch, "float32", torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)

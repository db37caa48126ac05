"""What `training.py` trains on: random models, rows of log-normal lengths, and their FLOPs."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers

from fusechat.training.examples import Example, Text

CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 4096,
        "tie_word_embeddings": True,
    },
    "tiny-gemma2": {
        "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "head_dim": 32,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 4096,
        "query_pre_attn_scalar": 32,
    },
    "1b": {  # Llama-3.2-1B
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "8b": {  # Llama-3.1-8B
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    },
    "gemma2-9b": {
        "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42, "head_dim": 256,
        "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 256000,
    },
}  # fmt: skip
CAP = 2048
"""Tokens of prompt and response together, as in FuseChat-3.0."""


@dataclass(frozen=True)
class Lengths:
    """Log-normal lengths in tokens: median and sigma of prompts and of responses."""

    prompt: tuple[float, float]
    response: tuple[float, float]


LENGTHS = {
    "D1": Lengths((130, 0.9), (350, 0.6)),  # like UltraFeedback
    "D2": Lengths((384, 0.5), (128, 0.5)),  # prompts three times as long as responses
    "S1": Lengths((130, 0.9), (350, 0.6)),
}


@dataclass(frozen=True)
class Setup:
    """One benchmark: the model's name in `CONFIGS`, where and how it is trained."""

    name: str
    config: str
    device: torch.device
    dtype: torch.dtype
    """Of the weights; float32 on a GPU is trained under bfloat16 autocast, as TRL does."""
    rows: int
    """Rows or pairs of one optimizer step."""
    steps: int
    """Different steps that a round runs."""
    seed: int = 0

    @property
    def sides(self) -> int:
        """Responses of a row."""
        return 1 if self.name == "S1" else 2

    @property
    def autocast(self) -> bool:
        """Whether forward passes run in mixed precision."""
        return self.device.type == "cuda" and self.dtype == torch.float32


def make_model(setup: Setup, noise: float = 0.0) -> Any:
    """The random model; `noise` moves its weights a little, as a policy's from its reference."""
    torch.manual_seed(setup.seed)
    shape = {
        "max_position_embeddings": 4096, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        **CONFIGS[setup.config],
    }  # fmt: skip
    gemma = "gemma2" in setup.config
    config = transformers.Gemma2Config(**shape) if gemma else transformers.LlamaConfig(**shape)
    kind = transformers.Gemma2ForCausalLM if gemma else transformers.LlamaForCausalLM
    before = torch.get_default_dtype()
    torch.set_default_dtype(setup.dtype)
    try:
        with setup.device:
            model = kind(config)
    finally:
        torch.set_default_dtype(before)
    if noise:
        torch.manual_seed(setup.seed + 1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.add_(torch.randn_like(parameter) * noise)
    return model.eval()


def make_steps(setup: Setup) -> list[list[Example]]:
    """Random rows in steps; seeded, the same for every peer."""
    draw = random.Random(f"{setup.name}:{setup.seed}")
    vocabulary = CONFIGS[setup.config]["vocab_size"]
    return [
        [_row(draw, setup, vocabulary, number) for number in range(setup.rows)]
        for _ in range(setup.steps)
    ]


def _row(draw: random.Random, setup: Setup, vocabulary: int, number: int) -> Example:
    def length(law: tuple[float, float], most: int) -> int:
        return max(8, min(most, round(draw.lognormvariate(math.log(law[0]), law[1]))))

    def ids(count: int) -> list[int]:
        return [draw.randrange(3, vocabulary) for _ in range(count)]

    law = LENGTHS[setup.name]
    prompt = ids(length(law.prompt, 1800))
    texts = []
    for _ in range(setup.sides):
        response = [*ids(length(law.response, CAP - len(prompt)) - 1), 2]
        texts.append(Text(np.array(prompt + response, dtype=np.int32), len(prompt)))
    return Example(f"p{number}", tuple(texts), 1.0)


def useful_tokens(examples: Sequence[Example]) -> int:
    """Tokens of all texts, prompts counted once for each side, nothing padded."""
    return sum(len(text.ids) for example in examples for text in example.texts)


def flops(setup: Setup, examples: Sequence[Example], shared: bool) -> float:
    """Of one forward and backward pass (three forwards), nothing padded.

    Per text of prompt P and response R with S = P + R: `2 B S + 2 q L S^2 + 2 H R`, where B are the
    body's matrix parameters, q = heads x width, L layers, H = hidden x vocabulary. `shared`: each
    prompt once for both sides.
    """
    c = CONFIGS[setup.config]
    hidden, layers, heads = c["hidden_size"], c["num_hidden_layers"], c["num_attention_heads"]
    width = c.get("head_dim", hidden // heads)
    q, kv = heads * width, c["num_key_value_heads"] * width
    body = layers * (2 * hidden * q + 2 * hidden * kv + 3 * hidden * c["intermediate_size"])
    total = 0.0
    for example in examples:
        prompt = example.texts[0].start
        for side, text in enumerate(example.texts):
            begun = prompt if shared and side else 0
            tokens, response = len(text.ids) - begun, text.length
            pairs = (len(text.ids) ** 2 - begun**2) / 2
            total += 2 * body * tokens + 4 * q * layers * pairs
            total += 2 * hidden * c["vocab_size"] * response
    return 3 * total

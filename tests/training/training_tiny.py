"""Tiny random models, a word-level tokenizer, and a way to run a training unit on them."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from fusechat.parts import Where
from fusechat.progress import quiet
from fusechat.records import Demonstration, Message, Pair
from fusechat.stages.context import UnitContext
from fusechat.tables import write_table
from fusechat.training.examples import Example, Text

WORDS = [f"w{number}" for number in range(60)]
SPECIAL = ["<pad>", "<s>", "<|user|>", "<|assistant|>", "<|end|>", "<unk>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|> {{ m.content }} <|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FAMILIES = ("llama", "gemma2", "qwen2", "mistral")


def make_tokenizer() -> transformers.PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(SPECIAL + WORDS)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="<|end|>",
        unk_token="<unk>", additional_special_tokens=SPECIAL[2:4],
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(family: str = "llama", seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": len(SPECIAL) + len(WORDS), "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 4,
        "initializer_range": 0.3, **changes,
    }  # fmt: skip
    if family == "gemma2":
        config = transformers.Gemma2Config(
            **{"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8,
               "final_logit_softcapping": 3.0, **shape}
        )  # fmt: skip
        return transformers.Gemma2ForCausalLM(config).eval()
    if family == "mistral":
        config = transformers.MistralConfig(**{"sliding_window": 8, **shape})
        return transformers.MistralForCausalLM(config).eval()
    if family == "qwen2":
        config = transformers.Qwen2Config(**{"tie_word_embeddings": True, **shape})
        return transformers.Qwen2ForCausalLM(config).eval()
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).eval()


def save_base(folder: Path, family: str = "llama", **changes: Any) -> Path:
    make_model(family, **changes).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def random_examples(count: int, sides: int, seed: int = 0, longest: int = 20) -> list[Example]:
    draw = np.random.default_rng(seed)

    def text() -> Text:
        prompt, response = draw.integers(2, 9), draw.integers(1, longest)
        return Text(draw.integers(6, 66, prompt + response).astype(np.int32), int(prompt))

    return [
        Example(f"p{number}", tuple(text() for _ in range(sides)), 1.0) for number in range(count)
    ]


def words(draw: random.Random, least: int, most: int) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))


def demonstrations(count: int, seed: int = 0) -> list[Demonstration]:
    draw = random.Random(seed)
    return [
        Demonstration(
            prompt_id=f"p{number}", messages=(Message(role="user", content=words(draw, 1, 6)),),
            response=words(draw, 1, 12), response_id=f"r{number}", source="s", origin="o",
            domain="chat",
        )
        for number in range(count)
    ]  # fmt: skip


def pairs(count: int, seed: int = 0) -> list[Pair]:
    draw = random.Random(seed)
    return [
        Pair(
            prompt_id=f"p{number}", messages=(Message(role="user", content=words(draw, 1, 6)),),
            chosen="w1 " + words(draw, 1, 12), rejected="w2 " + words(draw, 1, 12),
            chosen_id=f"c{number}", rejected_id=f"r{number}", source="s", origin="o",
            domain="chat",
        )
        for number in range(count)
    ]  # fmt: skip


def save_build(folder: Path, sft: Sequence[Demonstration] = (), dpo: Sequence[Pair] = ()) -> Path:
    write_table(folder / "sft", sft, Demonstration)
    write_table(folder / "dpo", dpo, Pair)
    return folder


def context_of(
    folder: Path, base: Path, build: Path, settings: Any, seed: int = 0, **where: Any
) -> UnitContext:
    return UnitContext(
        name="train/test", folder=folder, inputs={"build": build, "model": base},
        settings=settings, seed=seed, where=Where(device="cpu", **where), progress=quiet(),
        log=logging.getLogger("test"),
    )  # fmt: skip


def bytes_of(folder: Path) -> dict[str, str]:
    """Digest of every file below `folder`."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

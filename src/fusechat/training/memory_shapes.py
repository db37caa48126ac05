"""The sizes of a decoder, from its `config.json`: parameters, and what a backward pass keeps.

Pure; neither torch nor transformers is needed. The counts are of transformers' own modules as
they are written (version 5): what autograd saves was counted by hand there, tensor by tensor, and
the tests count it again with `torch.autograd.graph.saved_tensors_hooks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KNOWN = {
    "llama": 2, "mistral": 2, "qwen2": 2, "qwen3": 2, "gemma2": 4,
}  # fmt: skip
"""Model types whose modules were read -> norms of a layer. Others count like `llama`."""


@dataclass(frozen=True)
class Shape:
    """A decoder: layers of attention and a gated feed-forward network, embedding and head."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    width: int
    """Of one head."""
    inner: int
    """Of the feed-forward network (`intermediate_size`)."""
    vocabulary: int
    tied: bool
    """Whether the head is the embedding."""
    norms: int = 2
    """RMS norms of a layer; Gemma-2 has four."""
    head_norms: bool = False
    """Whether queries and keys are normalized (Qwen-3)."""
    qkv_bias: bool = False
    capped: bool = False
    """Whether final logits are soft-capped (Gemma-2)."""
    note: str = ""
    """What is not known of it."""

    @property
    def queries(self) -> int:
        """Elements of all queries of a token: heads x width."""
        return self.heads * self.width

    @property
    def keys(self) -> int:
        """Elements of all keys of a token, and of all values."""
        return self.kv_heads * self.width

    @property
    def layer_matrices(self) -> int:
        """Elements of the matrices of one layer: q, k, v, o, gate, up, down."""
        attention = self.hidden * (2 * self.queries + 2 * self.keys)
        return attention + 3 * self.hidden * self.inner

    @property
    def body(self) -> int:
        """Elements of the matrices of all layers: `B` of the FLOPs."""
        return self.layers * self.layer_matrices

    @property
    def head(self) -> int:
        """Elements of the head: `H` of the FLOPs."""
        return self.hidden * self.vocabulary

    @property
    def largest(self) -> int:
        """Elements of the largest parameter."""
        return max(self.head, self.hidden * self.inner)

    @property
    def vectors(self) -> int:
        """Elements of all norms and biases."""
        layer = self.norms * self.hidden + (2 * self.width if self.head_norms else 0)
        layer += self.queries + 2 * self.keys if self.qkv_bias else 0
        return self.layers * layer + self.hidden

    @property
    def parameters(self) -> int:
        """All of them; a tied head counts once."""
        return self.body + self.head * (1 if self.tied else 2) + self.vectors

    def lora_parameters(self, rank: int) -> int:
        """Of adapters of this rank on every matrix of every layer: rank x (in + out) each."""
        h, q, k, f = self.hidden, self.queries, self.keys, self.inner
        return self.layers * rank * (2 * (h + q) + 2 * (h + k) + 3 * (h + f))

    def kept_by_layer(self, mixed: bool) -> int:
        """Bytes that one layer keeps of one token for its backward pass.

        With `h` hidden, `q` and `k` of `queries` and `keys`, `f` inner, `n` norms, in elements:

        - each norm keeps its input, the normalized input and a factor: `n (2h + 1)`, float32
        - five matrices read a norm's output. In float32 two of those (`2h`) are kept; in mixed
          precision each matrix keeps its own bfloat16 copy (`5h`)
        - attention keeps queries, keys, values, output and a normalizer for each head:
          `2q + 2k`, and `heads` in float32
        - the feed-forward network keeps gate, its activation, up and their product: `4f`
        - norms of queries and keys keep, for each, a float32 and another copy: `2 (q + k)`

        `mixed`: bfloat16 autocast over float32 weights, else all float32.
        """
        h, q, k, f = self.hidden, self.queries, self.keys, self.inner
        size = 2 if mixed else 4
        kept = 4 * self.norms * (2 * h + 1) + size * (5 if mixed else 2) * h
        kept += size * (2 * q + 2 * k + 4 * f) + 4 * self.heads
        if self.head_norms:
            kept += (4 + size) * (q + k) + 4 * (self.heads + self.kv_heads)
        return kept

    def kept_by_checkpoint(self) -> int:
        """Bytes that a checkpointed layer keeps of one token: its input, in float32."""
        return 4 * self.hidden

    def kept_outside(self) -> int:
        """Bytes that embedding, rotary tables and the last norm keep of one token."""
        return 4 * (2 * self.hidden + 1) + 2 * 4 * self.width + 2 * 8

    def worked_on(self, mixed: bool) -> int:
        """Bytes of one token that a layer's gradient needs first, when all that it keeps is there.

        The gradients of its output, in float32, and of the product of gate and up.
        """
        return 4 * self.hidden + (2 if mixed else 4) * self.inner

    def copied_weights(self, mixed: bool) -> int:
        """Bytes of the bfloat16 copies of all layers' matrices that mixed precision keeps."""
        return 2 * self.body if mixed else 0


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """The shape of a `config.json`; None where it is no decoder of the kind that is counted."""
    text = config.get("text_config", config)
    if not isinstance(text, Mapping):
        return None
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    sizes = [text.get(name) for name in (*names, "vocab_size")]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return None
    layers, hidden, heads, inner, vocabulary = (int(size) for size in sizes if size is not None)
    kind = str(text.get("model_type", ""))
    width = text.get("head_dim") or (256 if kind == "gemma2" else hidden // heads)
    tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    note = "" if kind in KNOWN else f"sizes of '{kind or 'this model'}' are counted like Llama's"
    if any("expert" in name for name in text):
        note = f"'{kind}' has experts, of which only one feed-forward network is counted"
    return Shape(
        layers=layers, hidden=hidden, heads=heads,
        kv_heads=int(text.get("num_key_value_heads") or heads), width=int(width), inner=inner,
        vocabulary=vocabulary, tied=(kind == "gemma2") if tied is None else bool(tied),
        norms=KNOWN.get(kind, 2), head_norms=kind == "qwen3", qkv_bias=kind == "qwen2",
        capped=bool(text.get("final_logit_softcapping")), note=note,
    )  # fmt: skip


PUBLISHED = {
    "meta-llama/Llama-3.2-1B-Instruct": Shape(16, 2048, 32, 8, 64, 8192, 128256, True),
    "meta-llama/Llama-3.2-3B-Instruct": Shape(28, 3072, 24, 8, 128, 8192, 128256, True),
    "meta-llama/Llama-3.1-8B-Instruct": Shape(32, 4096, 32, 8, 128, 14336, 128256, False),
    "Qwen/Qwen2.5-7B-Instruct": Shape(28, 3584, 28, 4, 128, 18944, 152064, False, qkv_bias=True),
    "google/gemma-2-9b-it": Shape(
        42, 3584, 16, 8, 256, 14336, 256000, True, norms=4, capped=True
    ),
}  # fmt: skip
"""FuseChat-3.0's targets, from their published `config.json`, for planning before they are here."""

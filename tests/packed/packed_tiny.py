"""Tiny decoders of every family that is known, exact where transformers itself is not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import transformers
from hypothesis import strategies as st
from transformers import AttentionInterface

from fusechat.packed.attention import BUCKETS, Backend, no_mask, packed
from fusechat.packed.layout import Segment, positions

VOCABULARY = 61
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 512,
    "tie_word_embeddings": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SLIDING = {"use_sliding_window": True, "sliding_window": 7}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 4},
    "mistral": {"sliding_window": None, "head_dim": 4},
    "gemma2": {"head_dim": 4, "query_pre_attn_scalar": 5, "attn_logit_softcapping": 2.0},
    "mistral, sliding": {"sliding_window": 7, "head_dim": 4},
    "qwen2, sliding": SLIDING | {"layer_types": ["full_attention", "sliding_attention"]},
    "qwen3, sliding": SLIDING | {"head_dim": 4, "max_window_layers": 0},
    "gemma2, sliding": {"head_dim": 4, "attn_logit_softcapping": 2.0, "sliding_window": 7},
    "llama, one key head": {"num_key_value_heads": 1},
    "llama, no shared key heads": {"num_key_value_heads": 6},
    "llama, heads no power of two": {"num_attention_heads": 3, "num_key_value_heads": 3},
}


def network(family: str, exact: bool = True, **changes: Any) -> Any:
    """A decoder with a head, in float64, with weights that make every token matter."""
    kind = family.split(",")[0]
    config = transformers.AutoConfig.for_model(kind, **(SHAPE | FAMILIES[family] | changes))
    torch.manual_seed(7)
    made = transformers.AutoModelForCausalLM.from_config(config).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    if exact:
        make_exact(made)
    return made


def make_exact(made: Any) -> None:
    """RoPE, norms and softmax in float64, which transformers computes in float32."""
    rotary = made.get_decoder().rotary_emb
    for module in made.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(norm, module)

    def forward(x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = position_ids[..., None].double() * rotary.inv_freq.double()
        angles = torch.cat([angles, angles], -1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)

    rotary.forward = forward
    AttentionInterface.register("written_out", written_out)
    made.config._attn_implementation = "written_out"


def norm(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """RMSNorm; Gemma's weight is counted from 1."""
    gemma = "Gemma" in type(module).__name__
    size = hidden.square().mean(-1, keepdim=True) + (
        module.eps if gemma else module.variance_epsilon
    )
    return hidden * size.rsqrt() * (1 + module.weight if gemma else module.weight)


def written_out(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *, scaling: float,
    softcap: float | None = None, sliding_window: int | None = None, **kwargs: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Causal attention of whole texts, in the order of the paper's formula."""
    times, n = query.shape[1] // key.shape[1], query.shape[2]
    key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    logits = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    apart = torch.arange(n)[:, None] - torch.arange(n)
    seen = (apart >= 0) & (apart < (sliding_window or n))
    weights = logits.masked_fill(~seen, float("-inf")).softmax(-1)
    return (weights @ value).transpose(1, 2), None


Family = tuple[list[int], list[list[int]]]
"""A prompt's ids, and those of the responses behind it."""


def texts(families: Sequence[Family]) -> list[list[int]]:
    """Each response with its prompt; a prompt without responses by itself."""
    return [[*p, *r] for p, responses in families for r in (responses or [[]])]


def row(families: Sequence[Family]) -> tuple[list[int], list[Segment]]:
    """The packed row of these, each prompt once."""
    ids: list[int] = []
    segments: list[Segment] = []
    for prompt, responses in families:
        prefix = (len(ids), len(ids) + len(prompt))
        if prompt:
            segments.append(Segment(*prefix))
            ids += prompt
        for response in responses:
            segments.append(Segment(len(ids), len(ids) + len(response), prefix))
            ids += response
    return ids, segments


def packed_logits(
    made: Any, ids: list[int], segments: Sequence[Segment], backend: Backend = BUCKETS
) -> torch.Tensor:
    """`[tokens, vocabulary]`."""
    places = torch.from_numpy(positions(segments))[None]
    with packed(made, segments, backend):
        return made(
            input_ids=torch.tensor([ids]), position_ids=places, attention_mask=no_mask("cpu"),
            use_cache=False,
        ).logits[0]  # fmt: skip


def spread(logits: torch.Tensor, families: Sequence[Family]) -> list[torch.Tensor]:
    """Logits of a packed row, as those of `texts`."""
    found, at = [], 0
    for prompt, responses in families:
        shared = logits[at : at + len(prompt)]
        at += len(prompt)
        for response in responses:
            found.append(torch.cat([shared, logits[at : at + len(response)]]))
            at += len(response)
        if not responses:
            found.append(shared)
    return found


def plain_logits(made: Any, families: Sequence[Family]) -> list[torch.Tensor]:
    """One ordinary forward pass for each text."""
    return [made(input_ids=torch.tensor([t]), use_cache=False).logits[0] for t in texts(families)]


def gradients(made: Any, found: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Of a sum in which each logit has another weight."""
    made.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for number, logits in enumerate(found):
        weights = torch.linspace(-1, 1 + number, logits.numel(), dtype=torch.float64)
        total = total + (logits * weights.cos().reshape(logits.shape)).sum()
    total.backward()
    return [p.grad.clone() for p in made.parameters() if p.grad is not None]


@st.composite
def layouts(draw: Any) -> tuple[Segment, ...]:
    """Sound segments of up to some forty tokens: shared and not, whole prefixes and parts."""
    found: list[Segment] = []
    end = 0
    for _ in range(draw(st.integers(1, 3))):
        root = Segment(end, end + draw(st.integers(1, 8)))
        found.append(root)
        end = root.stop
        for _ in range(draw(st.integers(0, 4))):
            reach = draw(st.sampled_from([root.stop, root.start + (root.length + 1) // 2]))
            found.append(Segment(end, end + draw(st.integers(0, 7)), (root.start, reach)))
            end = found[-1].stop
    return tuple(found)

"""Which models packed rows can go through, and what such a model is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusechat.packed.attention import BUCKETS, no_mask, packed
from fusechat.packed.layout import Segment, positions

if TYPE_CHECKING:
    import torch

KNOWN = ("gemma2", "llama", "mistral", "qwen2", "qwen3")
"""Values of `config.model_type` whose packed rows are proven by tests; others are tried out."""
_KINDS = {"full_attention", "sliding_attention"}
_STRETCHED = {"dynamic", "longrope"}


@dataclass(frozen=True)
class Parts:
    """A causal language model as packed training sees it."""

    decoder: Any
    """Token ids to hidden states `[1, tokens, width]`."""
    weight: torch.Tensor
    """`[vocabulary, width]` of the output layer."""
    bias: torch.Tensor | None
    tied: bool
    """Whether `weight` is the input embedding, too."""
    scale: float
    """Logits are multiplied by it."""
    cap: float | None
    """Then they are bent to `cap * tanh(logits / cap)`."""
    note: str


def known(model: Any) -> Parts | str:
    """The parts of a transformers model (not wrapped by PEFT), or why it takes the plain path.

    A model of a type that is not in `KNOWN` is fed a few tokens, packed and one by one: it is taken
    where both agree.
    """
    import torch

    reason = refusal(model)
    if reason:
        return reason
    layer, decoder = model.get_output_embeddings(), model.get_decoder()
    if type(layer) is not torch.nn.Linear:
        return f"its output layer is a {type(layer).__name__}"
    config = decoder.config.get_text_config()
    note = f"{config.model_type}: packed rows"
    if config.model_type not in KNOWN:
        if not agrees(decoder):
            return f"packed rows give other hidden states in a model of type {config.model_type}"
        note += ", found to agree with plain ones on a few tokens"
    divided = getattr(config, "logits_scaling", None)
    scale = getattr(config, "logit_scale", None) or (1 / divided if divided else 1.0)
    tied = layer.weight is model.get_input_embeddings().weight
    cap = getattr(config, "final_logit_softcapping", None)
    return Parts(decoder, layer.weight, layer.bias, tied, float(scale), cap, note)


def refusal(network: Any) -> str | None:
    """Why the attention of a transformers model cannot be replaced; None where it can."""
    config = network.config.get_text_config()
    can_set = getattr(network, "_can_set_attn_implementation", None)
    if can_set is None or not can_set():
        return "its attention cannot be replaced"
    if not getattr(config, "is_causal", True):
        return "it is not causal"
    kinds = set(getattr(config, "layer_types", None) or []) - _KINDS
    if kinds:
        return f"it has layers of another kind: {', '.join(sorted(kinds))}"
    stretched = _rope_kinds(config) & _STRETCHED
    if stretched:  # one long text would change the angles of all others in its row
        return f"its positions are stretched by the longest text of a row ({stretched.pop()} RoPE)"
    return None


def _rope_kinds(config: Any) -> set[str]:
    asked = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    each = [asked, *(inner for inner in asked.values() if isinstance(inner, dict))]  # by layer type
    return {str(one.get("rope_type", one.get("type"))) for one in each}


def window(network: Any) -> int | None:
    """Shortest sliding window of its layers; None where each token sees all before it.

    A sliding window does nothing to a text that is not longer than it.
    """
    sizes = [size for size in windows(network) if size is not None]
    return min(sizes) if sizes else None


def windows(network: Any) -> set[int | None]:
    """The sliding windows of its layers, None for full attention."""
    config = network.config.get_text_config()
    size = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    return {None if kind != "sliding_attention" or size is None else int(size) for kind in kinds}


def agrees(decoder: Any, tolerance: float = 1e-3) -> bool:
    """Whether a few tokens have the same hidden states packed and one text at a time.

    `tolerance`: of the largest hidden state; in 16 bits it is widened to what these can say.
    """
    import torch

    weight = next(decoder.parameters())
    size = decoder.config.get_text_config().vocab_size
    made = torch.Generator().manual_seed(0)
    ids = torch.randint(0, size, (17,), generator=made).to(weight.device)
    segments = (Segment(0, 6), Segment(6, 10, (0, 6)), Segment(10, 14, (0, 6)), Segment(14, 17))
    places = torch.from_numpy(positions(segments)).to(weight.device)
    texts = [[*range(10)], [*range(6), *range(10, 14)], [*range(14, 17)]]
    with torch.no_grad():
        with packed(decoder, segments, BUCKETS):
            together = decoder(
                input_ids=ids[None], position_ids=places[None],
                attention_mask=no_mask(weight.device), use_cache=False,
            ).last_hidden_state[0]  # fmt: skip
        for text in texts:
            alone = decoder(input_ids=ids[None, text], use_cache=False).last_hidden_state[0]
            apart = (together[text] - alone).abs().max()
            if not apart <= max(tolerance, 8 * torch.finfo(alone.dtype).eps) * alone.abs().max():
                return False
    return True

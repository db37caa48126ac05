"""Attention for packs: each response sees its prompt and itself, and nothing else.

Registered with transformers as one more attention implementation, so that stock models need no
patch: all their other layers work token by token and do not care how tokens are laid out. A model
has it only inside `packed()`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from fusechat.annotators._shared_prompt import Segment

if TYPE_CHECKING:
    import torch

NAME = "fusechat_shared_prompt"
_FULL, _SLIDING = "full_attention", "sliding_attention"
_SEGMENTS: ContextVar[Sequence[Segment] | None] = ContextVar("segments", default=None)


def can_share(network: Any) -> bool:
    """Whether a decoder's attention can be replaced: causal, and of a kind that is known here."""
    config = network.config.get_text_config()
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    return bool(
        network._can_set_attn_implementation()
        and config._attn_implementation == ("eager" if capped else "sdpa")
        and getattr(config, "is_causal", True)
        and set(getattr(config, "layer_types", None) or [_FULL]) <= {_FULL, _SLIDING}
    )


def window(network: Any) -> int | None:
    """Longest conversation of which each token sees all before it; None: of any length.

    A sliding window does nothing to a conversation that is not longer than it.
    """
    config = network.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or [_SLIDING]
    size = getattr(config, "sliding_window", None) if _SLIDING in kinds else None
    return None if size is None else int(size)


@contextmanager
def packed(network: Any, segments: Sequence[Segment]) -> Iterator[None]:
    """While open, a forward pass of the model is of one row that holds these segments."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
    before = network.config._attn_implementation
    network.set_attn_implementation(NAME)
    token = _SEGMENTS.set(segments)
    try:
        yield
    finally:
        _SEGMENTS.reset(token)
        network.set_attn_implementation(before)


def no_mask(device: Any) -> torch.Tensor:
    """A mask that models hand on as it is, and that this attention does not read."""
    import torch

    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """`query [1, heads, tokens, width]` -> `[1, tokens, heads, width]`."""
    from transformers.integrations.sdpa_attention import repeat_kv

    segments = _SEGMENTS.get()
    assert segments is not None
    times = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, times), repeat_kv(value, times)
    attend = _Attention(segments, query, scaling, softcap)
    out = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
    for segment in segments:
        own = slice(segment.start, segment.stop)
        keys, values = _seen(key, segment), _seen(value, segment)
        out[:, own] = attend(segment, query[:, :, own], keys, values).transpose(1, 2)
    return out, None


def _seen(tensor: torch.Tensor, segment: Segment) -> torch.Tensor:
    """Keys or values `[1, heads, tokens, width]` of a segment's prefix and of itself."""
    import torch

    own = tensor[:, :, segment.start : segment.stop]
    begin, end = segment.prefix
    return own if begin == end else torch.cat([tensor[:, :, begin:end], own], dim=2)


class _Attention:
    """Attention of one segment at a time: its queries see the prefix, and no later own token."""

    def __init__(
        self,
        segments: Sequence[Segment],
        query: torch.Tensor,
        scale: float | None,
        cap: float | None,
    ) -> None:
        import torch

        self.scale, self.cap = scale, cap
        self.prefix = max(s.prefix[1] - s.prefix[0] for s in segments)
        self.mask = None
        if cap is not None or query.device.type == "cpu":  # one for all, cut to size for each
            longest = max(s.stop - s.start for s in segments)
            size = (longest, self.prefix + longest)
            blank = torch.full(size, float("-inf"), dtype=query.dtype, device=query.device)
            self.mask = blank.triu(self.prefix + 1)

    def __call__(
        self, segment: Segment, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        from torch.nn.functional import scaled_dot_product_attention

        prefix = segment.prefix[1] - segment.prefix[0]
        mask = self._mask(segment.stop - segment.start, prefix)
        if self.cap is not None:
            return self._capped(query, keys, values, mask)
        if prefix == 0:
            return scaled_dot_product_attention(
                query, keys, values, is_causal=True, scale=self.scale
            )
        return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=self.scale)

    def _mask(self, length: int, prefix: int) -> Any:
        from torch.nn.attention.bias import causal_lower_right

        if self.mask is None:  # on a GPU a form that its fused kernels know without a mask
            return causal_lower_right(length, prefix + length)
        return self.mask[:length, self.prefix - prefix : self.prefix + length]

    def _capped(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Gemma-2's: the logits are bent to at most `cap`, in the order of its stock code."""
        import torch

        assert self.cap is not None
        scale = query.shape[3] ** -0.5 if self.scale is None else self.scale
        logits = torch.matmul(query, keys.transpose(2, 3)) * scale
        logits = torch.tanh(logits / self.cap) * self.cap + mask
        weights = torch.softmax(logits, dim=-1, dtype=torch.float32).to(query.dtype)
        return torch.matmul(weights, values)

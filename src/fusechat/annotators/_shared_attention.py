"""Packs of conversations through a reward model: who may go through, and how.

The attention itself is that of `fusechat.packed`, which training uses, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fusechat.packed import attention, networks
from fusechat.packed.attention import no_mask
from fusechat.packed.layout import Segment

__all__ = ["can_share", "no_mask", "packed", "window"]
_FULL, _SLIDING = "full_attention", "sliding_attention"


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
    return networks.window(network)


@contextmanager
def packed(network: Any, segments: Sequence[Segment]) -> Iterator[None]:
    """While open, a forward pass of the model is of one row that holds these segments."""
    backend = attention.choose(network, network.device, network.dtype, quick=True)
    with attention.packed(network, segments, backend):
        yield

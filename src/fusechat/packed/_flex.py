"""FlexAttention over packed rows: one kernel, whatever the lengths, compiled once for all shapes.

A token sees two runs of the row: of its prefix, and of its own segment up to itself. The places
where those runs begin and end are all that the mask needs, sliding windows included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from fusechat.packed.layout import runs

if TYPE_CHECKING:
    import torch

    from fusechat.packed.attention import Plan

BLOCK = 128
"""Tokens of a tile: the kernel skips tiles in which nothing is seen; rows are padded to it."""


def attend(plan: Plan, of: Any, scale: float, cap: float | None, window: int | None) -> Any:
    """`query [1, heads, tokens, width]` -> `[1, tokens, heads, width]`."""
    query, key, value = of
    tokens, heads, groups = query.shape[2], query.shape[1], key.shape[1]
    mask = plan.once(("flex", window), lambda: block_mask(plan, window, query.device))
    if heads & (heads - 1) and heads != groups:  # as transformers does: not all kernels take it
        key, value = (tensor.repeat_interleave(heads // groups, 1) for tensor in (key, value))
    padded = [_pad(tensor, mask.shape[-1]) for tensor in (query, key, value)]
    out = _kernel(query.device.type)(
        *padded,
        score_mod=None if cap is None else _bent(cap),
        block_mask=mask,
        scale=scale,
        enable_gqa=heads != key.shape[1],
    )
    return out[:, :, :tokens].transpose(1, 2)


@cache
def _kernel(device: str) -> Callable[..., Any]:
    """Compiled on a GPU; on a CPU as written, which has no backward pass."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    stock: Callable[..., Any] = flex_attention
    return stock if device == "cpu" else torch.compile(stock, dynamic=True)


def _pad(tensor: torch.Tensor, tokens: int) -> torch.Tensor:
    import torch

    missing = tokens - tensor.shape[2]
    return torch.nn.functional.pad(tensor, (0, 0, 0, missing)) if missing else tensor


@cache
def _bent(cap: float) -> Callable[..., Any]:
    """Gemma-2's soft-cap."""
    import torch

    def bent(score: Any, row: Any, head: Any, query: Any, key: Any) -> Any:
        return cap * torch.tanh(score / cap)

    return bent


@dataclass(frozen=True)
class Seen:
    """Of each token of a row that is padded to whole tiles, the runs that it sees, `[tokens]`.

    Both begin at a place and end before another; the own run always ends with the token itself.
    """

    prefix_begin: torch.Tensor
    prefix_end: torch.Tensor
    own_begin: torch.Tensor


def seen(plan: Plan, window: int | None, device: torch.device) -> Seen:
    """Tokens that fill the last tile see only themselves."""
    import numpy as np
    import torch

    found = runs(plan.segments, window)
    tokens = found.shape[1]
    padding = np.arange(tokens, -(-tokens // BLOCK) * BLOCK)
    filled = np.concatenate([found, [0 * padding, 0 * padding, padding]], 1).astype(np.int32)
    return Seen(*torch.from_numpy(filled).to(device).unbind())


def block_mask(plan: Plan, window: int | None, device: torch.device) -> Any:
    """Which tiles are seen in part, wholly or not at all, counted from the runs of each token."""
    import torch
    from torch.nn.attention.flex_attention import BlockMask

    what = seen(plan, window, device)
    places = torch.arange(len(what.own_begin), dtype=torch.int32, device=device)
    edges = places[::BLOCK]
    count = _shared(what.own_begin, places + 1, edges)
    count += _shared(what.prefix_begin, what.prefix_end, edges)
    count = count.view(-1, BLOCK, len(edges)).sum(1)
    whole = count == BLOCK * BLOCK
    return BlockMask.from_kv_blocks(
        *_listed((count > 0) & ~whole), *_listed(whole), BLOCK_SIZE=BLOCK, mask_mod=_mask_mod(what)
    )


def _shared(begin: torch.Tensor, end: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """How many places of each run lie in each tile, `[runs, tiles]`."""
    first, last = begin[:, None].maximum(edges), end[:, None].minimum(edges + BLOCK)
    return (last - first).clamp(min=0)


def _listed(chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How many tiles of each row are chosen, and which (these first)."""
    import torch

    number = chosen.sum(1, dtype=torch.int32)
    order = chosen.to(torch.int32).argsort(dim=1, descending=True, stable=True)
    return number[None, None], order.to(torch.int32)[None, None]


def _mask_mod(what: Seen) -> Callable[..., Any]:
    """One function with other tensors for each row, so that it is compiled only once."""
    prefix_begin, prefix_end, own_begin = what.prefix_begin, what.prefix_end, what.own_begin

    def sees(row: Any, head: Any, query: Any, key: Any) -> Any:
        own = (key >= own_begin[query]) & (key <= query)
        return own | ((key >= prefix_begin[query]) & (key < prefix_end[query]))

    return sees

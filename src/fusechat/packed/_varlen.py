"""torch's own variable-length flash attention over packed rows, in one call a layer.

Each segment's queries meet the keys of its prefix and its own, gathered side by side; causality is
aligned at their ends, so that the first own token sees the whole prefix and itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fusechat.packed.layout import Ints, Segment

if TYPE_CHECKING:
    import torch

    from fusechat.packed.attention import Plan


@dataclass(frozen=True)
class Gathered:
    """Where the keys of the segments come from, as numpy or as tensors."""

    queries: Any
    """`[segments + 1]` where the queries of each begin and end."""
    keys: Any
    """`[segments + 1]` where its gathered keys do."""
    longest: tuple[int, int]
    """Most queries and most keys of a segment."""
    index: Any
    """`[gathered keys]` places in the row; None where nothing is shared: the row as it is."""
    own: Any
    """`[tokens]` where each token of the row stands as its segment's own key."""
    again: Sequence[tuple[Any, Any]]
    """(places in the row, places among the gathered) of keys of prefixes: in one entry every place
    of the row stands once at most, so that what is added there is added in a fixed order."""


def gathered(segments: Sequence[Segment]) -> Gathered:
    """How to lay the keys out; segments without tokens are left out."""
    held = [s for s in segments if s.length]
    queries = np.cumsum([0, *(s.length for s in held)])
    keys = np.cumsum([0, *(s.shared + s.length for s in held)])
    pieces, own, again = [], [], []
    turns: dict[tuple[int, int], int] = {}
    for s, at in zip(held, keys, strict=False):
        pieces += [np.arange(*s.prefix), np.arange(s.start, s.stop)]
        own.append(np.arange(at + s.shared, at + s.shared + s.length))
        if s.shared:
            turn = turns[s.prefix] = turns.get(s.prefix, -1) + 1
            again.append((turn, np.arange(*s.prefix), np.arange(at, at + s.shared)))
    shares = bool(again)
    longest = max(s.length for s in held), max(s.shared + s.length for s in held)
    return Gathered(
        queries, keys, longest, np.concatenate(pieces) if shares else None,
        np.concatenate(own) if shares else None, _by_turn(again),
    )  # fmt: skip


def _by_turn(again: Sequence[tuple[int, Ints, Ints]]) -> list[tuple[Ints, Ints]]:
    """The first segment behind each prefix, then the second, and so on.

    Two prefixes may overlap (one the beginning of the other), and then take turns of their own.
    """
    layers: list[list[tuple[Ints, Ints]]] = []
    taken: list[set[int]] = []
    for turn, rows, places in again:
        at = turn
        while at < len(layers) and rows[0] in taken[at]:
            at += 1
        while at >= len(layers):
            layers.append([])
            taken.append(set())
        layers[at].append((rows, places))
        taken[at].add(int(rows[0]))
    return [
        (np.concatenate([rows for rows, _ in layer]), np.concatenate([at for _, at in layer]))
        for layer in layers
        if layer
    ]


def attend(plan: Plan, of: Any, scale: float, cap: float | None, window: int | None) -> Any:
    """`query [1, heads, tokens, width]` -> `[1, tokens, heads, width]`."""
    if cap is not None:
        raise ValueError("variable-length attention knows no soft-cap; use flex or buckets")
    query, key, value = (tensor[0].transpose(0, 1) for tensor in of)
    where: Gathered = plan.once("varlen", lambda: _moved(gathered(plan.segments), query.device))
    if where.index is not None:
        key, value = (_gather().apply(tensor, where) for tensor in (key, value))
    return form().call((query, key, value), where, scale, window)[None]


def _moved(where: Gathered, device: torch.device) -> Gathered:
    import torch

    def moved(array: Any, dtype: Any = torch.int64) -> Any:
        return None if array is None else torch.from_numpy(array).to(device, dtype)

    return Gathered(
        moved(where.queries, torch.int32), moved(where.keys, torch.int32), where.longest,
        moved(where.index), moved(where.own), [(moved(r), moved(p)) for r, p in where.again],
    )  # fmt: skip


@cache
def _gather() -> Any:
    """The autograd function: gathers forward, and in a fixed order back."""
    import torch

    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, rows: torch.Tensor, where: Gathered) -> torch.Tensor:
            ctx.where = where
            return rows.index_select(0, where.index)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
            out = gradient.index_select(0, ctx.where.own)
            for rows, places in ctx.where.again:
                out.index_add_(0, rows, gradient.index_select(0, places))
            return out, None

    return Gather


@dataclass(frozen=True)
class Form:
    """How this torch's `varlen_attn` is called: its signature has changed between versions."""

    function: Callable[..., Any]
    names: frozenset[str]

    @property
    def windows(self) -> bool:
        """Whether it knows sliding windows."""
        return "window_size" in self.names

    def call(self, of: Any, where: Gathered, scale: float, window: int | None) -> Any:
        """`of`: query, gathered key and value `[tokens, heads, width]` -> the first's shape."""
        query, key, value = of
        times = query.shape[1] // key.shape[1]
        options: dict[str, Any] = {"is_causal": True}
        if self.windows:
            options = {"window_size": (-1 if window is None else window - 1, 0)}
        elif window is not None:
            raise ValueError("this torch's variable-length attention knows no sliding window")
        if "scale" in self.names:
            options["scale"] = scale
        else:
            query = query * (scale * query.shape[2] ** 0.5)
        if "enable_gqa" in self.names:
            options["enable_gqa"] = times > 1
        elif times > 1:
            key, value = (tensor.repeat_interleave(times, 1) for tensor in (key, value))
        cuts = where.queries, where.keys, *where.longest
        return self.function(query, key, value, *cuts, **options)


@cache
def form() -> Form:
    """Raises `ImportError` where this torch has none."""
    from torch.nn.attention.varlen import varlen_attn

    return Form(varlen_attn, frozenset(inspect.signature(varlen_attn).parameters))

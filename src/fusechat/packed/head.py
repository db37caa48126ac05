"""From hidden states to log-probabilities of given tokens, without ever holding all logits.

The vocabulary projection is done for some tokens at a time (a tile). Logits, softmax and every
sum are in float32 (in float64 where the weights are); the backward pass projects each tile again,
unless all tiles together are so small that keeping them is cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from fusechat.packed.networks import known

if TYPE_CHECKING:
    import torch

TILE_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
"""Room for the logits of one tile and their gradient together, by kind of device."""
KEEP_BYTES = 256 << 20
"""Logits of at most so many bytes are kept for the backward pass: on a CPU, 1.3 to 1.4 times faster
than to project again."""


@dataclass(frozen=True)
class Head:
    """What a model does to `hidden @ weight.T + bias` before the softmax, and in what room."""

    scale: float = 1.0
    """Logits are multiplied by it (Cohere, Granite)."""
    cap: float | None = None
    """Then they are bent to `cap * tanh(logits / cap)` (Gemma-2: 30)."""
    halved: bool = False
    """Whether factors of the products are rounded to bfloat16, as they are elsewhere in a model
    that computes in mixed precision. Products, logits and sums are float32 all the same."""
    tile_bytes: int | None = None
    """None: `TILE_BYTES` of the device."""
    keep_bytes: int = KEEP_BYTES

    def tokens_of_a_tile(self, weight: torch.Tensor) -> int:
        """At least 1."""
        import torch

        room = self.tile_bytes or TILE_BYTES.get(weight.device.type, TILE_BYTES["cuda"])
        size = torch.promote_types(weight.dtype, torch.float32).itemsize
        return max(1, room // (2 * len(weight) * size))


def head_of(model: Any, halved: bool = False) -> Head | None:
    """How a transformers model makes logits; None where packed rows cannot go through it."""
    parts = known(model)
    return None if isinstance(parts, str) else Head(parts.scale, parts.cap, halved)


def token_logps(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    head: Head,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log-probability of each target, nats, `[n]`, float32 (float64 where `weight` is).

    `hidden [n, d]`, `weight [v, d]`, `bias [v]`, `targets [n]` below `v`. Differentiable, once, in
    `hidden`, `weight` and `bias`; what needs no gradient costs none.
    """
    import torch

    with torch.autocast(hidden.device.type, enabled=False):
        found: torch.Tensor = _function().apply(hidden, weight, bias, targets, head)
    return found


@cache
def _function() -> Any:
    """The autograd function; made when it is first asked for, since it derives from torch's."""
    import torch

    class TokenLogps(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            return _forward(ctx, *inputs)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, *gradients: Any) -> Any:
            return _backward(ctx, *gradients)

    return TokenLogps


def _forward(ctx: Any, *inputs: Any) -> torch.Tensor:
    import torch

    hidden, weight, bias, targets, head = inputs
    tiles = _Tiles(hidden, weight, bias, head)
    dtype = tiles.dtype
    out = torch.empty(len(targets), dtype=dtype, device=hidden.device)
    needed = any(ctx.needs_input_grad)
    keep = needed and len(targets) * len(weight) * dtype.itemsize <= head.keep_bytes
    kept = []
    for rows in tiles.rows(len(targets)):
        logits = tiles.logits(rows)
        shifted = torch.log_softmax(logits, dim=-1)
        out[rows] = shifted.gather(1, targets[rows].unsqueeze(1)).squeeze(1)
        if keep:
            kept.append(logits)
    if needed:
        ctx.save_for_backward(hidden, weight, bias, targets, *kept)
        ctx.head = head
    return out


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    import torch

    hidden, weight, bias, targets, *kept = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    with torch.autocast(hidden.device.type, enabled=False):
        tiles = _Tiles(hidden, weight, bias, ctx.head)
        sums = [
            torch.zeros_like(t, dtype=tiles.dtype) if want else None
            for t, want in zip((hidden, weight, bias), wanted, strict=False)
        ]
        for number, rows in enumerate(tiles.rows(len(targets))):
            logits = kept[number] if kept else tiles.logits(rows)
            tiles.add_gradients(rows, logits, targets[rows], gradient[rows], sums)
    given = (
        None if total is None else total.to(tensor.dtype)
        for total, tensor in zip(sums, (hidden, weight, bias), strict=True)
    )
    return (*given, None, None)


class _Tiles:
    """The projection of some tokens at a time, and its gradients."""

    def __init__(
        self, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, head: Head
    ) -> None:
        import torch

        self.head, self.dtype = head, torch.promote_types(weight.dtype, torch.float32)
        on_gpu = weight.device.type == "cuda"
        half = weight.dtype if weight.dtype.itemsize == 2 else torch.bfloat16
        # Only CUDA multiplies 16-bit factors into 32-bit results.
        self.halved = (
            on_gpu and (head.halved or weight.dtype.itemsize == 2) and weight.dtype.itemsize < 8
        )
        factors = half if self.halved else self.dtype
        self.hidden, self.weight = hidden.to(factors), weight.to(factors)
        self.bias = None if bias is None else bias.to(self.dtype)
        self.step = head.tokens_of_a_tile(weight)

    def rows(self, count: int) -> list[slice]:
        """The tokens of each tile."""
        return [slice(at, min(at + self.step, count)) for at in range(0, count, self.step)]

    def logits(self, rows: slice) -> torch.Tensor:
        """`[tokens, v]`, scaled and capped."""
        out = self._product(self.hidden[rows], self.weight.T)
        if self.bias is not None:
            out += self.bias
        if self.head.scale != 1.0:
            out *= self.head.scale
        if self.head.cap is not None:
            out = out.div_(self.head.cap).tanh_().mul_(self.head.cap)
        return out

    def add_gradients(
        self,
        rows: slice,
        logits: torch.Tensor,
        targets: torch.Tensor,
        gradient: torch.Tensor,
        sums: list[torch.Tensor | None],
    ) -> None:
        """Add what one tile gives to the gradients of hidden states, weight and bias in `sums`."""
        import torch

        factor = gradient.to(self.dtype).unsqueeze(1)
        slope = torch.softmax(logits, dim=-1).mul_(-factor)
        slope.scatter_add_(1, targets.unsqueeze(1), factor)
        if self.head.cap is not None:
            slope.mul_(1 - (logits / self.head.cap).square_())
        if self.head.scale != 1.0:
            slope *= self.head.scale
        of_hidden, of_weight, of_bias = sums
        if of_bias is not None:
            of_bias += slope.sum(0)
        slope = slope.to(self.weight.dtype)
        if of_hidden is not None:
            of_hidden[rows] = self._product(slope, self.weight)
        if of_weight is not None:
            self._add_product(of_weight, slope.T, self.hidden[rows])

    def _product(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        import torch

        if self.halved:
            return torch.mm(one, other, out_dtype=self.dtype)
        return torch.mm(one, other)

    def _add_product(self, total: torch.Tensor, one: torch.Tensor, other: torch.Tensor) -> None:
        """`total += one @ other`, in the precision of `total`."""
        import torch

        if self.halved:
            torch.addmm(total, one, other, out_dtype=self.dtype, out=total)
        else:
            total.addmm_(one, other)

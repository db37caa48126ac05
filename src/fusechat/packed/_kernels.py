"""Attention of one call, forward and backward, with its normalizers given out and taken in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusechat.packed.layout import Call

if TYPE_CHECKING:
    import torch

    from fusechat.packed.attention import Plan

Two = tuple["torch.Tensor", "torch.Tensor"]
Three = tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]


def choose(
    plan: Plan, query: torch.Tensor, value: torch.Tensor, scale: float, cap: float | None
) -> Fused | Plain:
    """The fused kernel of torch on a CPU, where it computes what is asked; else plain math."""
    import torch

    fused = (
        cap is None
        and query.device.type == "cpu"
        and query.shape[3] == value.shape[3]
        and hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")
    )
    return Fused(plan, scale) if fused else Plain(plan, scale, cap)


def norm_dtype(query: torch.Tensor) -> torch.dtype:
    """Of the normalizers: at least float32."""
    import torch

    return torch.promote_types(query.dtype, torch.float32)


@dataclass(frozen=True)
class Fused:
    """Flash attention on a CPU: never holds the weights, skips keys behind the diagonal."""

    plan: Plan
    scale: float

    def forward(self, of: Three, call: Call) -> Two:
        """Query, key, value `[groups, heads, tokens, width]` -> output, normalizers (no width)."""
        import torch

        mask = _mask(self.plan, of[0], call)
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        found: Two = kernel(*of, 0.0, call.causal, attn_mask=mask, scale=self.scale)
        return found

    def backward(
        self, gradient: torch.Tensor, of: Three, out: torch.Tensor, norm: torch.Tensor, call: Call
    ) -> Three:
        """Gradients of query, key, value, each in its shape."""
        import torch

        mask = _mask(self.plan, of[0], call)
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        found: Three = kernel(
            gradient, *of, out, norm, 0.0, call.causal, attn_mask=mask, scale=self.scale
        )
        return found


@dataclass(frozen=True)
class Plain:
    """Logits, soft-cap, softmax and sum as written; recomputed in the backward pass."""

    plan: Plan
    scale: float
    cap: float | None

    def forward(self, of: Three, call: Call) -> Two:
        """Query, key, value `[groups, heads, tokens, width]` -> output, normalizers (no width)."""
        query, key, value = of
        logits, _ = self._logits(query, key, call)
        norm = logits.logsumexp(3)
        weights = logits.sub_(norm.unsqueeze(3)).exp_().to(value.dtype)
        return weights @ value, norm

    def backward(
        self, gradient: torch.Tensor, of: Three, out: torch.Tensor, norm: torch.Tensor, call: Call
    ) -> Three:
        """Gradients of query, key, value, each in its shape."""
        query, key, value = of
        logits, bent = self._logits(query, key, call)
        weights = logits.sub_(norm.unsqueeze(3)).exp_()
        for_value = weights.to(value.dtype).transpose(2, 3) @ gradient
        outer = (gradient.to(weights.dtype) * out).sum(3, keepdim=True)
        slope = weights.mul_((gradient @ value.transpose(2, 3)).to(weights.dtype).sub_(outer))
        if bent is not None:
            slope.mul_(1 - bent.square())
        slope = slope.mul_(self.scale).to(query.dtype)
        return slope @ key, slope.transpose(2, 3) @ query, for_value

    def _logits(
        self, query: torch.Tensor, key: torch.Tensor, call: Call
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What the softmax is of, in at least float32, and what bent them (their tanh)."""
        logits = (query @ key.transpose(2, 3)).to(norm_dtype(query)) * self.scale
        bent = None
        if self.cap is not None:
            bent = (logits / self.cap).tanh_()
            logits = bent * self.cap
        hidden = _hidden(self.plan, query, call)
        return (logits if hidden is None else logits.masked_fill_(hidden, float("-inf"))), bent


def _mask(plan: Plan, query: torch.Tensor, call: Call) -> torch.Tensor | None:
    """What is added to the logits of a call with a window; a fused causal call needs none."""
    if call.window is None:
        return None
    hidden = _hidden(plan, query, call)
    assert hidden is not None
    key = "added", call.stop - call.start, call.end - call.begin, call.window, call.gap, query.dtype
    made: torch.Tensor = plan.once(
        key, lambda: query.new_zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
    )
    return made


def _hidden(plan: Plan, query: torch.Tensor, call: Call) -> torch.Tensor | None:
    """True where a query does not see a key, `[queries, keys]`; None where each sees all."""
    if call.window is None and not call.causal:
        return None
    rows, columns = call.stop - call.start, call.end - call.begin
    key = "hidden", rows, columns, call.window, call.gap
    made: torch.Tensor = plan.once(key, lambda: _apart(query.device, rows, columns, call))
    return made


def _apart(device: torch.device, rows: int, columns: int, call: Call) -> Any:
    import torch

    apart = torch.arange(rows, device=device)[:, None] - torch.arange(columns, device=device)
    apart += call.gap
    return (apart < 0) if call.window is None else (apart < 0) | (apart >= call.window)

"""Attention piece by piece: exact, without padding, on any device.

A query that sees a prefix and its own segment meets them in two calls, neither of which needs a
mask, and the two softmaxes are joined by their normalizers (log-sum-exp). In the backward pass
each call gets the joined output and normalizer, which makes its gradients the exact ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from fusechat.packed import _kernels
from fusechat.packed.layout import Call, Calls, calls

if TYPE_CHECKING:
    import torch

    from fusechat.packed._kernels import Fused, Plain
    from fusechat.packed.attention import Plan

    Kernel = Fused | Plain
    How = tuple[Calls, Kernel]
    Three = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def attend(plan: Plan, of: Three, scale: float, cap: float | None, window: int | None) -> Any:
    """`query [1, heads, tokens, width]` -> `[1, tokens, heads, width]`."""
    work: Calls = plan.once(("calls", window), lambda: calls(plan.segments, window))
    query, key, value = of
    kernel = _kernels.choose(plan, query, value, scale, cap)
    return _function().apply(query, key, value, (work, kernel))


def of_one_dtype(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """As autocast would have them for attention; models may mix (norms of queries in float32)."""
    import torch

    device = tensors[0].device.type
    if torch.is_autocast_enabled(device):
        return [tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors]
    return list(tensors)


@cache
def _function() -> Any:
    """The autograd function (a class of torch's, which is only imported here)."""
    import torch

    class SegmentAttention(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, query: Any, key: Any, value: Any, how: How) -> Any:
            out, norm = forward(query, key, value, *how)
            ctx.save_for_backward(query, key, value, out, norm)
            ctx.how = how
            return out

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: Any) -> Any:
            return *backward(gradient, ctx.saved_tensors, *ctx.how), None

    return SegmentAttention


def forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, work: Calls, kernel: Kernel
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output `[1, tokens, heads, width]` and normalizers `[groups, heads in one, tokens]`."""
    import torch

    q, k, v = _grouped(query, key, value)
    groups, times, tokens, _ = q.shape
    out = q.new_empty(1, tokens, groups * times, v.shape[3])
    o = _by_group(out, groups)
    norm: Any = q.new_empty(tokens, groups, times, dtype=_kernels.norm_dtype(q)).permute(1, 2, 0)
    parts = [kernel.forward(of, call) for call, of in _each_own(work, q, k, v)]
    torch._foreach_copy_(o.split(work.cuts, 2), [part[0] for part in parts])
    torch._foreach_copy_(norm.split(work.cuts, 2), [part[1] for part in parts])
    for call in work.before:
        part, its_norm = kernel.forward((_rows(q, call), _keys(k, call), _keys(v, call)), call)
        own, own_norm = _rows(o, call), _rows(norm, call)
        share = torch.sigmoid(its_norm - own_norm).unsqueeze(3)
        own.lerp_(part, share.to(part.dtype))
        torch.logaddexp(own_norm, its_norm, out=own_norm)
    return out, norm


def backward(gradient: Any, saved: Any, work: Calls, kernel: Kernel) -> Three:
    """Gradients of query, key and value, in their shapes. `saved`: these, and `forward`'s results.

    Gradients of keys that several heads share are summed last, in the order of the heads.
    """
    import torch

    query, key, value, out, norm = saved
    q, k, v = _grouped(query, key, value)
    groups, times, tokens, _ = q.shape
    o, go = _by_group(out, groups), _by_group(_dense(gradient), groups)
    blank = torch.zeros if work.banded else torch.empty
    flat = [
        blank(1, tokens, groups * times, t.shape[3], dtype=t.dtype, device=t.device)
        for t in (q, k, v)
    ]
    grads = [_by_group(t, groups) for t in flat]
    parts = [
        kernel.backward(go_, of, o_, norm_, call)
        for (call, of), go_, o_, norm_ in zip(
            _each_own(work, q, k, v), *(t.split(work.cuts, 2) for t in (go, o, norm)), strict=True
        )
    ]
    torch._foreach_copy_(grads[0].split(work.cuts, 2), [part[0] for part in parts])
    for place in (1, 2):
        pieces = [part[place] for part in parts]
        if work.banded:  # a key may be in two calls
            grads[place].zero_()
            torch._foreach_add_([_keys(grads[place], call) for call in work.own], pieces)
        else:
            torch._foreach_copy_(grads[place].split(work.cuts, 2), pieces)
    for call in work.before:
        of = _rows(q, call), _keys(k, call), _keys(v, call)
        part = kernel.backward(_rows(go, call), of, _rows(o, call), _rows(norm, call), call)
        _rows(grads[0], call).add_(part[0])
        _keys(grads[1], call).add_(part[1])
        _keys(grads[2], call).add_(part[2])
    if times > 1:
        flat[1:] = [t.view(1, tokens, groups, times, -1).sum(3) for t in flat[1:]]
    return flat[0].transpose(1, 2), flat[1].transpose(1, 2), flat[2].transpose(1, 2)


def _each_own(work: Calls, q: Any, k: Any, v: Any) -> Iterator[tuple[Call, Three]]:
    """The own calls, with their queries, keys and values."""
    if work.banded:
        keys = [[_keys(t, call) for call in work.own] for t in (k, v)]
    else:
        keys = [t.split(work.cuts, 2) for t in (k, v)]
    for call, *of in zip(work.own, q.split(work.cuts, 2), *keys, strict=True):
        yield call, (of[0], of[1], of[2])


def _grouped(query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
    """`[groups, heads in one, tokens, width]` each, as views: heads that share keys together."""
    groups = key.shape[1]
    q = _dense(query)[0].unflatten(0, (groups, query.shape[1] // groups))
    k, v = (_dense(t)[0].unsqueeze(1).expand(-1, q.shape[1], -1, -1) for t in (key, value))
    return q, k, v


def _dense(tensor: Any) -> Any:
    """With its last dimension in one piece, as the kernels read it."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _by_group(tensor: Any, groups: int) -> Any:
    """`[1, tokens, heads, width]` -> `[groups, heads in one, tokens, width]`, a view."""
    return tensor[0].unflatten(1, (groups, -1)).permute(1, 2, 0, 3)


def _rows(tensor: Any, call: Call) -> Any:
    return tensor.narrow(2, call.start, call.stop - call.start)


def _keys(tensor: Any, call: Call) -> Any:
    return tensor.narrow(2, call.begin, call.end - call.begin)

"""Attention of packed rows, put into unpatched transformers models while a context is open.

All other layers of a decoder work token by token and do not care how tokens are laid out, so that
one function, registered as one more attention implementation, is all that a packed row needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from fusechat.packed import _buckets, _flex, _varlen
from fusechat.packed.layout import Segment, check

if TYPE_CHECKING:
    import torch

NAME = "fusechat_packed"
Asked = Literal["auto", "buckets", "flex", "varlen"]
Attend = Callable[["Plan", Any, float, float | None, int | None], Any]
"""(plan, (query, key, value) `[1, heads, tokens, width]` each, scale, soft-cap, window) -> output
`[1, tokens, heads, width]`."""


@dataclass(frozen=True)
class Backend:
    """How attention is computed: `buckets` (any device, exact), `flex` or `varlen` (GPUs)."""

    name: str
    note: str = ""
    """Why it was chosen."""


BUCKETS = Backend("buckets", "one piece of attention for each segment")


@dataclass
class Plan:
    """What the attention of one forward pass (and of its recomputation) needs to know."""

    segments: tuple[Segment, ...]
    backend: Backend
    prepared: dict[object, Any]
    """What all layers share (calls, masks), made by the first that asks for it."""

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """What was made for `key`, by now at the latest."""
        if key not in self.prepared:
            self.prepared[key] = make()
        return self.prepared[key]


_PLAN: ContextVar[Plan | None] = ContextVar("plan", default=None)


def choose(
    network: Any,
    device: torch.device,
    dtype: torch.dtype,
    asked: Asked = "auto",
    *,
    quick: bool = False,
) -> Backend:
    """The backend for a transformers decoder that computes in `dtype` on a device.

    `auto`: on a CUDA GPU all are tried out on random tokens, and the fastest of those that give
    the right results and gradients is taken (`note` says what each did); elsewhere `buckets`.
    `quick`: the first of them that is right, where trying all would take longer than it saves.
    Raises `TrainingError` where the one that is `asked` for cannot do it.
    """
    from fusechat.packed import _choosing
    from fusechat.packed.networks import windows

    if asked == "buckets" or (asked == "auto" and device.type != "cuda"):
        return BUCKETS
    shape = _choosing.shape_of(network, windows(network))
    trial = _choosing.Trial(shape, device, dtype, _ATTENDS["buckets"])
    names = ("varlen", "flex", "buckets") if asked == "auto" else (asked,)
    found = _choosing.verdicts(trial, {name: _ATTENDS[name] for name in names}, quick)
    note = "; ".join(map(str, found))
    if found[0].milliseconds is None:
        if asked != "auto":
            raise _choosing.refuse(asked, found[0].why)
        return Backend("buckets", note)
    return Backend(found[0].name, note)


@contextmanager
def packed(network: Any, segments: Sequence[Segment], backend: Backend = BUCKETS) -> Iterator[None]:
    """While open, a forward pass of `network` is of one packed row that holds these segments.

    The row goes in as `input_ids [1, tokens]`, `position_ids [1, tokens]` (`layout.positions`) and
    `attention_mask=no_mask(device)`. The backward pass may run after the context has closed, also
    where layers are checkpointed: what is recomputed then, in whatever thread, is the same.
    """
    from transformers import AttentionInterface

    check(segments, segments[-1].stop if segments else 0)
    AttentionInterface.register(NAME, _attend)
    plan = Plan(tuple(segments), backend, {})
    configs = _configs(network)
    with _recomputing(network, plan, configs), _active(plan, configs):
        yield


def no_mask(device: Any) -> torch.Tensor:
    """A mask that models hand on as it is, and that this attention does not read.

    It holds nothing, so that any other attention that is given it fails instead of reading it.
    """
    import torch

    return torch.ones(1, 1, 0, 0, dtype=torch.bool, device=device)


def _configs(network: Any) -> list[Any]:
    """The configurations that say which attention the model's layers use, each once."""
    found = {}
    for module in network.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation"):
            found[id(config)] = config
    return list(found.values())


@contextmanager
def _active(plan: Plan, configs: Sequence[Any]) -> Iterator[None]:
    before = [config._attn_implementation for config in configs]
    token = _PLAN.set(plan)
    try:
        for config in configs:
            config._attn_implementation = NAME
        yield
    finally:
        _PLAN.reset(token)
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name


@contextmanager
def _recomputing(network: Any, plan: Plan, configs: Sequence[Any]) -> Iterator[None]:
    """Makes layers that are checkpointed in here find the plan again when they are recomputed."""

    def again(call: Callable[..., Any], *inputs: Any) -> Any:
        with _active(plan, configs):
            return call(*inputs)

    def keeping(stock: Callable[..., Any]) -> Callable[..., Any]:
        return lambda call, *rest, **options: stock(partial(again, call), *rest, **options)

    name = "_gradient_checkpointing_func"
    changed = [(m, vars(m)[name]) for m in network.modules() if callable(vars(m).get(name))]
    for module, stock in changed:
        setattr(module, name, keeping(stock))
    try:
        yield
    finally:
        for module, stock in changed:
            setattr(module, name, stock)


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
    """`query [1, heads, tokens, width]` -> `[1, tokens, heads, width]`; without dropout."""
    plan = _PLAN.get()
    if plan is None:
        raise RuntimeError("attention of packed rows was called outside packed()")
    if query.shape[0] != 1 or query.shape[2] != plan.segments[-1].stop:
        raise ValueError(
            f"packed() was told of 1 row of {plan.segments[-1].stop} tokens, and the model was fed "
            f"{query.shape[0]} of {query.shape[2]}"
        )
    if "sliding_window" in kwargs:
        window = kwargs["sliding_window"]
    else:
        window = getattr(module, "sliding_window", None)
    scale = query.shape[3] ** -0.5 if scaling is None else scaling
    of = tuple(_buckets.of_one_dtype(query, key, value))
    return _ATTENDS[plan.backend.name](plan, of, scale, softcap, window), None


_ATTENDS: dict[str, Attend] = {
    "buckets": _buckets.attend, "flex": _flex.attend, "varlen": _varlen.attend,
}  # fmt: skip

"""Which attention is the fastest that is right on a device: tried out, never assumed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fusechat.errors import TrainingError
from fusechat.packed.layout import Segment

if TYPE_CHECKING:
    import torch

    from fusechat.packed.attention import Attend

TOLERANCE = {"torch.float32": 5e-3, "torch.float16": 1e-2, "torch.bfloat16": 4e-2}
"""Of the largest value; a wrong mask is off by tens of percent. float32 may be TF32."""
_HALVES = ("torch.float16", "torch.bfloat16")
_TOKENS = 8192
_ROUNDS = 3


@dataclass(frozen=True)
class Shape:
    """What the attention of a model looks like."""

    heads: int
    key_heads: int
    width: int
    cap: float | None
    windows: tuple[int | None, ...]


@dataclass(frozen=True)
class Verdict:
    """What one candidate did: milliseconds of a forward and backward, or why it is out."""

    name: str
    milliseconds: float | None
    why: str = ""

    def __str__(self) -> str:
        if self.milliseconds is None:
            return f"{self.name} is out: {self.why}"
        return f"{self.name} takes {self.milliseconds:.2f} ms"


def shape_of(network: Any, windows: set[int | None]) -> Shape:
    """From the configuration of a transformers decoder."""
    config = network.config.get_text_config()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    cap = getattr(config, "attn_logit_softcapping", None)
    ordered = tuple(sorted(windows, key=lambda size: size or 0))
    return Shape(heads, getattr(config, "num_key_value_heads", None) or heads, width, cap, ordered)


def unfit(name: str, shape: Shape, device: str, dtype: str) -> str | None:
    """Why a backend cannot even be tried; None where it can. `device`: kind; `dtype`: its name."""
    if name == "buckets":
        return None
    if device != "cuda":
        return f"it needs a CUDA GPU, and this is a {device}"
    if name == "flex":
        return None if dtype in TOLERANCE else f"it does not compute in {dtype}"
    return _unfit_for_flash(shape, dtype)


def _unfit_for_flash(shape: Shape, dtype: str) -> str | None:
    from fusechat.packed import _varlen

    if shape.cap is not None:
        return "it knows no soft-cap, which this model has"
    if dtype not in _HALVES:
        return f"it computes in 16 bits only, and this is {dtype}"
    if shape.width > 256 or shape.width % 8:
        return f"it knows no heads of width {shape.width}"
    try:
        form = _varlen.form()
    except ImportError:
        return "this version of torch does not have it"
    if set(shape.windows) != {None} and not form.windows:
        return "in this version of torch it knows no sliding windows, which this model has"
    return None


def refuse(asked: str, why: str) -> TrainingError:
    """For a backend that was asked for by name and cannot do it."""
    return TrainingError(
        f"attention: {asked} cannot be used here: {why}. Set attention to auto, which takes the "
        "fastest that works, or to buckets, which works everywhere."
    )


def pack(tokens: int, seed: int = 0) -> tuple[Segment, ...]:
    """Pairs of responses behind their prompts, of the lengths of chat data, in about `tokens`."""
    draw = np.random.default_rng(seed)
    found: list[Segment] = []
    end = 0
    while end < tokens:
        drawn = draw.lognormal([4.9, 5.8, 5.8], [0.9, 0.6, 0.6])
        prompt, *responses = (1 + drawn.astype(int)).tolist()
        prefix = (end, end + prompt)
        found.append(Segment(*prefix))
        for length in responses:
            start = found[-1].stop
            found.append(Segment(start, start + length, prefix))
        end = found[-1].stop
    return tuple(found)


SMALL = (
    Segment(0, 37), Segment(37, 90, (0, 37)), Segment(90, 91, (0, 37)), Segment(91, 260, (0, 37)),
    Segment(260, 395), Segment(395, 400), Segment(400, 441, (395, 400)),
)  # fmt: skip
"""Short and long, shared and not, across tiles of 128 tokens."""


@dataclass(frozen=True)
class Trial:
    """Backends of one shape on one device, against one that is right everywhere."""

    shape: Shape
    device: torch.device
    dtype: torch.dtype
    oracle: Attend

    def judge(self, name: str, attend: Attend) -> Verdict:
        """Right on a few tokens in every window, then timed. What fails is out, with the reason."""
        why = unfit(name, self.shape, self.device.type, str(self.dtype))
        if why:
            return Verdict(name, None, why)
        try:
            for window in self.shape.windows:
                apart = max(self.apart(attend, some, window) for some in (SMALL, SMALL[:4]))
                if not apart <= TOLERANCE[str(self.dtype)]:
                    return Verdict(name, None, f"its results are {apart:.1%} off")
            return Verdict(name, self._timed(attend))
        except Exception as error:  # noqa: BLE001 - compilers and kernels raise whatever they like
            return Verdict(name, None, f"{type(error).__name__}: {str(error).strip()[:200]}")

    def apart(self, attend: Attend, segments: Sequence[Segment], window: int | None) -> float:
        """Largest difference of outputs and gradients to float32 ones, over the largest value.

        The window is shortened so that it hides something; what is not finite is infinitely off.
        """
        import torch

        window = window and min(window, 50)
        of = self._random(segments[-1].stop)
        wide = [tensor.detach().float().requires_grad_() for tensor in of]
        ours = self._once(attend, segments, of, window)
        theirs = self._once(self.oracle, segments, wide, window)
        if not all(torch.isfinite(one).all() for one in ours):
            return float("inf")
        sizes = [other.abs().max().clamp(min=1e-6) for other in theirs]
        return max(
            float((one.float() - other).abs().max() / size)
            for one, other, size in zip(ours, theirs, sizes, strict=True)
        )

    def _once(
        self, attend: Attend, segments: Sequence[Segment], of: Any, window: int | None
    ) -> list[torch.Tensor]:
        """Output and gradients of one forward and backward."""
        import torch

        from fusechat.packed.attention import BUCKETS, Plan

        plan = Plan(tuple(segments), BUCKETS, {})
        out = attend(plan, of, self.shape.width**-0.5, self.shape.cap, window)
        weights = torch.linspace(-1, 1, out.numel(), device=out.device).cos().view(out.shape)
        return [out.detach(), *torch.autograd.grad((out * weights.to(out.dtype)).sum(), of)]

    def _timed(self, attend: Attend) -> float:
        """Milliseconds for a row of real size, the best of some rounds."""
        import torch

        segments = pack(_TOKENS)
        of = self._random(segments[-1].stop)
        found = []
        for _ in range(_ROUNDS + 1):
            torch.cuda.synchronize(self.device)
            begun = time.perf_counter()
            self._once(attend, segments, of, self.shape.windows[0])
            torch.cuda.synchronize(self.device)
            found.append(1000 * (time.perf_counter() - begun))
        return min(found[1:])

    def _random(self, tokens: int) -> list[torch.Tensor]:
        """Query, key and value `[1, heads, tokens, width]`."""
        import torch

        made = torch.Generator(device=self.device).manual_seed(0)
        sizes = [
            (1, tokens, n, self.shape.width)
            for n in (self.shape.heads, *2 * (self.shape.key_heads,))
        ]
        drawn = [torch.randn(size, generator=made, device=self.device) for size in sizes]
        return [one.to(self.dtype).transpose(1, 2).requires_grad_() for one in drawn]


@cache
def verdict(trial: Trial, name: str, attend: Attend) -> Verdict:
    """On one candidate; made once for a shape and a device."""
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        return trial.judge(name, attend)


def verdicts(trial: Trial, attends: Mapping[str, Attend], quick: bool) -> list[Verdict]:
    """On candidates, the best that is right first; `quick`: it is the first that is right, and no
    others are tried behind it; else the fastest."""
    found: list[Verdict] = []
    for name, attend in attends.items():
        found.append(verdict(trial, name, attend))
        if quick and found[-1].milliseconds is not None:
            break
    return sorted(found, key=lambda one: one.milliseconds or float("inf"))

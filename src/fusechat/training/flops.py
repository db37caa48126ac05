"""Floating-point operations of training steps, and the time they take at a rate. Pure.

With `B` body and `H` head parameters, `L` layers and `q` elements of a token's queries, a forward
pass over `c` computed tokens, `a` pairs of a query and a key that it sees, and `n` response tokens
takes

    2 B c + 4 q L a + 2 H n

A backward pass takes two more; gradient checkpointing repeats the body's forward pass, and the
head's is repeated always (`packed.head`). So a step is 3 (or 4) bodies and 4 heads, and the
reference's pass one of each, once over the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fusechat.training.memory_shapes import Shape

PEAK = {
    "a100-40": 312e12, "a100": 312e12, "h100": 989e12, "h200": 989e12, "b200": 2250e12,
    "l40s": 362e12, "l4": 121e12, "a10": 125e12, "rtx-3090": 71e12, "rtx-4090": 165e12,
    "rtx-5090": 210e12,
}  # fmt: skip
"""Operations a second of dense bfloat16 with float32 sums, from the makers' data sheets."""
USED = 0.32
"""Share of that which a step is assumed to reach: 40% of the 80% that large products reach. A
trial on the machine itself replaces it."""
PLAIN = 1 / 8
"""Of the bfloat16 rate, what float32 is assumed to reach (with TF32 off)."""


@dataclass(frozen=True)
class Load:
    """What some rows cost, in counts."""

    computed: float = 0.0
    """Tokens that go through the layers."""
    seen: float = 0.0
    """Pairs of a query and a key that it sees."""
    responses: float = 0.0
    """Tokens that go through the head."""

    def __add__(self, other: Load) -> Load:
        return Load(
            self.computed + other.computed,
            self.seen + other.seen,
            self.responses + other.responses,
        )

    def times(self, factor: float) -> Load:
        """So many such rows."""
        return Load(self.computed * factor, self.seen * factor, self.responses * factor)


def load_of(lengths: Sequence[tuple[int, int]], shared: int = 0) -> Load:
    """Of one row: `lengths` has tokens of prompt and response of each text.

    `shared`: tokens that the texts begin with and that are computed once.
    """
    computed = seen = float(shared)
    seen = shared * (shared + 1) / 2
    for prompt, response in lengths:
        own = prompt + response - shared
        computed += own
        seen += own * shared + own * (own + 1) / 2
    return Load(computed, seen, float(sum(response for _, response in lengths)))


def total_load(loads: Iterable[Load]) -> Load:
    """The sum of some rows'."""
    return sum(loads, Load())


def forward_flops(shape: Shape, load: Load) -> tuple[float, float]:
    """Operations of one forward pass, of the body and of the head."""
    body = 2.0 * shape.body * load.computed + 4.0 * shape.queries * shape.layers * load.seen
    return body, 2.0 * shape.head * load.responses


def step_flops(shape: Shape, load: Load, checkpointing: bool, lora: bool = False) -> float:
    """Operations of a training step: those that are run, repeated ones included.

    With adapters the gradients of the frozen matrices are not made: one body less.
    """
    body, head = forward_flops(shape, load)
    return body * ((2 if lora else 3) + checkpointing) + head * (3 if lora else 4)


def unit_flops(
    shape: Shape,
    load: Load,
    epochs: float,
    checkpointing: bool,
    *,
    reference: bool,
    lora: bool = False,
) -> float:
    """Operations of a whole unit over rows of `load` in all."""
    trained = epochs * step_flops(shape, load, checkpointing, lora)
    return trained + (sum(forward_flops(shape, load)) if reference else 0.0)


def assumed_rate(gpu: str, mixed: bool) -> float | None:
    """Operations a second of one GPU of that name; None where its peak is not known."""
    peak = PEAK.get(gpu.lower())
    return None if peak is None else peak * USED * (1.0 if mixed else PLAIN)

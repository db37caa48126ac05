"""Whether a training unit fits a device, and how: planned before anything is loaded. Pure.

    weights + gradients + two moments          4 + 4 + 8 bytes a trained parameter (float32)
    + copies of weights, what layers keep      `memory_shapes.Shape`
    + the head's tile and its gradient         `packed.head`
    + reserve                                  driver, libraries, what the allocator loses

There is no second model: the reference's log-probabilities are made before the first step, by a
pass that keeps nothing. What is chosen here changes speed, never a result: gradient checkpointing
and tokens of a micro-batch. What would change a result (adapters) or the machines (more ranks) is
only proposed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from fusechat.packed.head import TILE_BYTES
from fusechat.training.memory_shapes import Shape

GIB = 2**30
DEVICES = {
    "a100-40": 39.4, "a100": 79.1, "h100": 79.1, "h200": 139.7, "b200": 178.3, "l40s": 44.4,
    "l4": 22.0, "a10": 22.0, "rtx-3090": 23.6, "rtx-4090": 23.5, "rtx-5090": 31.3,
}  # fmt: skip
"""GiB that torch sees of a GPU, by the name that a cluster file gives it."""
RESERVE = 10**9
"""Bytes of driver and libraries (contexts, workspaces) that no allocator counts."""
SLACK = 0.05
"""Share of what comes and goes with each micro-batch that is kept free beside it: these counts
are that far off at most (docs/training.md)."""
LOST = 0.04
"""Share of a device that fragmentation may make useless."""
BUDGETS = (16384, 8192, 4096, 2048, 1024, 512)
"""Tokens of a micro-batch, the first that fits; above 16,384 a GPU gets no faster."""
FULL_SPEED = 4096
"""With fewer tokens a GPU waits for its own launches: checkpointing is better."""
LORA_RANK = 16
"""Of the adapters that are proposed."""


@dataclass(frozen=True)
class How:
    """How a model is trained, as far as memory goes."""

    mixed: bool = True
    """bfloat16 autocast over float32 weights (`dtype: bfloat16`), else all float32."""
    checkpointing: bool = False
    lora: int | None = None
    """Rank of adapters on all matrices, over frozen float32 weights; None: all is trained."""
    shards: int = 1
    """Ranks that share weights, gradients and moments (FSDP 2); 1: each holds all."""
    device: str = "cuda"
    """`cuda` or `cpu`: the head's tile is smaller on a CPU."""


@dataclass(frozen=True)
class Needs:
    """Bytes of one rank at the peak of a step, by what they are of."""

    weights: float
    gradients: float
    moments: float
    kept: float
    """What a forward pass keeps for the backward pass: activations, and copies of weights."""
    work: float
    """What comes and goes on top: the head, or one layer with its gradients, whichever is more."""
    gathered: float
    """Whole weights and gradients of the layers that are at work, where they are shared."""

    @property
    def reserve(self) -> float:
        """What is kept free."""
        return RESERVE + SLACK * (self.kept + self.work)

    @property
    def states(self) -> float:
        """What does not depend on the micro-batch."""
        return self.weights + self.gradients + self.moments + self.gathered

    @property
    def total(self) -> float:
        """Of the device."""
        return self.states + self.kept + self.work + self.reserve


def needs(shape: Shape, how: How, tokens: int) -> Needs:
    """What a step with micro-batches of `tokens` computed tokens takes.

    Weights are float32; with adapters the frozen ones have no gradient and no moments. Kept are
    `tokens` x what layers keep (all of it, or with checkpointing each layer's input) and bfloat16
    copies of weights. The head holds hidden states of the tokens in float32 with their gradient,
    one tile, and its own gradient in float32 beside the one that it is added to. When it is done,
    the layers go, one after the other, each with its gradients, and with checkpointing with what
    it would have kept.
    """
    trained = shape.parameters if how.lora is None else shape.lora_parameters(how.lora)
    held = shape.parameters + (0 if how.lora is None else trained)
    own = shape.kept_by_checkpoint() if how.checkpointing else shape.kept_by_layer(how.mixed)
    # Shared layers are gathered in bfloat16, and given back after each pass: nothing is copied.
    copies = shape.copied_weights(how.mixed) if how.shards == 1 else 0
    layer: float = tokens * shape.worked_on(how.mixed)
    if how.checkpointing:
        layer += tokens * shape.kept_by_layer(how.mixed) + copies / shape.layers
    return Needs(
        weights=4 * held / how.shards, gradients=4 * trained / how.shards,
        moments=8 * trained / how.shards,
        kept=tokens * (shape.layers * own + shape.kept_outside())
        + (0 if how.checkpointing else copies),
        work=max(_head(shape, how, tokens), layer), gathered=_gathered(shape, how),
    )  # fmt: skip


def _head(shape: Shape, how: How, tokens: int) -> float:
    """See `packed.head`: a tile is its logits and their gradient, beside which stand the 16-bit
    factors of a product on a GPU, and with a soft cap two more of the logits' size."""
    halved = how.mixed and how.device == "cuda"
    hidden = 4 * shape.hidden * (2 + (0.5 if halved else 0))
    tile: float = min(TILE_BYTES[how.device], 2 * 4 * tokens * shape.vocabulary)
    tile *= 2.0 if shape.capped else 1.25 if halved else 1.0
    own_gradient = 4 * shape.head if how.lora is None else 0
    return tokens * hidden + tile + own_gradient + (2 * shape.head if halved else 0)


def _gathered(shape: Shape, how: How) -> float:
    """As `sharding` shares a model: two layers are gathered (one at work, one ahead), in bfloat16
    with mixed precision, with the gradients of one and their float32 sum; what stands outside of
    layers is there for the whole pass in float32, with its gradient."""
    if how.shards == 1:
        return 0.0
    size = 2 if how.mixed else 4
    outside = shape.head * (1 if shape.tied else 2)
    return (2 * size + size + 4) * shape.layer_matrices + 8 * outside


@dataclass(frozen=True)
class Choice:
    """What a plan came to."""

    fits: bool
    tokens: int
    """Of a micro-batch."""
    how: How
    needs: Needs
    room: float
    """Bytes that a rank may use."""
    notes: tuple[str, ...] = ()
    options: tuple[str, ...] = field(default=())
    """Where it does not fit: what would, each a sentence."""

    def line(self) -> str:
        """`41.2 of 84.9 GB, micro-batches of 8,192 tokens, no checkpointing`."""
        what = "gradient checkpointing" if self.how.checkpointing else "no gradient checkpointing"
        told = f"{gigabytes(self.needs.total)} of {gigabytes(self.room)}"
        return f"{told}, micro-batches of {self.tokens:,} tokens, {what}"


def gigabytes(count: float) -> str:
    """`41.2 GB` (10^9 bytes)."""
    return f"{count / 1e9:,.1f} GB"


def room_of(total: float) -> float:
    """What may be used of a device of `total` bytes."""
    return total * (1 - LOST)


def device_bytes(name: str) -> float:
    """Bytes of a GPU by its name (`h100`) or size (`80GB`, as nvidia-smi counts).

    Raises `ValueError` for a name that is not known.
    """
    asked = name.lower().replace("nvidia", "").replace(" ", "-").strip("-")
    if asked.endswith("gb") and asked[:-2].replace(".", "", 1).isdigit():
        return float(asked[:-2]) * GIB
    if asked not in DEVICES:
        raise ValueError(
            f"there is no GPU '{name}' in the list: {', '.join(DEVICES)}. Give its memory "
            "instead, such as '80GB'."
        )
    return DEVICES[asked] * GIB


def choose(
    shape: Shape,
    how: How,
    room: float,
    longest: int,
    *,
    checkpointing: bool | None = None,
    tokens: int | None = None,
) -> Choice:
    """Micro-batch tokens and checkpointing for `room` bytes a rank.

    `longest`: computed tokens of the longest row, which no micro-batch splits. `checkpointing`,
    `tokens`: what the user says; None leaves it open. The order, first that fits:

    1. no checkpointing, the most tokens of `BUDGETS` down to `FULL_SPEED`
    2. checkpointing, the most tokens down to the smallest (one row at a time at worst)
    3. no checkpointing with fewer tokens, where checkpointing is not allowed
    4. it does not fit: options, none of which is taken by itself
    """
    tries = list(_tries(how, longest, checkpointing, tokens))
    for trial, budget in tries:
        found = needs(shape, trial, max(budget, longest))
        if found.total <= room:
            return Choice(True, budget, trial, found, room, _notes(shape))
    trial, budget = tries[-1]
    found = needs(shape, trial, max(budget, longest))
    options = tuple(_options(shape, trial, room, longest))
    return Choice(False, budget, trial, found, room, _notes(shape), options)


def _notes(shape: Shape) -> tuple[str, ...]:
    return (shape.note,) if shape.note else ()


def _tries(
    how: How, longest: int, checkpointing: bool | None, tokens: int | None
) -> Iterator[tuple[How, int]]:
    budgets = [tokens] if tokens else [b for b in BUDGETS if b >= longest] or [longest]
    if not tokens and budgets[-1] > longest:
        budgets.append(longest)
    if checkpointing is not True:
        fast = [b for b in budgets if b >= FULL_SPEED or tokens or checkpointing is False]
        yield from ((replace(how, checkpointing=False), budget) for budget in fast)
    if checkpointing is not False:
        yield from ((replace(how, checkpointing=True), budget) for budget in budgets)


def _options(shape: Shape, how: How, room: float, longest: int) -> Iterator[str]:
    """What would fit with the shortest micro-batches, each as a sentence."""
    if not how.checkpointing and needs(shape, replace(how, checkpointing=True), longest).total <= (
        room
    ):
        yield "gradient_checkpointing: auto fits"
    if how.lora is None:
        for ranks in (2, 4, 8, 16, 32):
            shared = replace(how, checkpointing=True, shards=ranks * how.shards)
            if needs(shape, shared, longest).total <= room:
                yield f"{shared.shards} ranks with sharding: fsdp2 fit"
                break
        lora = replace(how, checkpointing=True, lora=LORA_RANK)
        found = needs(shape, lora, longest).total
        if found <= room:
            yield f"lora: {{r: {LORA_RANK}}} fits ({gigabytes(found)}; other results)"
    least = needs(shape, replace(how, checkpointing=True), longest).total / (1 - LOST)
    yield f"a device of {math.ceil(least / GIB)} GiB or more fits"

"""Which rows a step sees, and their padded micro-batches.

The order is a pure function of (seed, epoch), and how a step is cut never changes what it
computes beyond rounding: every sum is divided by the whole step's rows or tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fusechat.training.examples import Example

if TYPE_CHECKING:
    import torch

PADDED_TOKENS = 8192
"""Tokens of a micro-batch, padding included, where its number of rows is not given."""


def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """The numbers 0 to `rows` - 1 in the order of one epoch (counted from 0)."""
    order = list(range(rows))
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return order


def cut(
    examples: Sequence[Example], micro_batch_size: int | None, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """This rank's micro-batches of one step, as places in `examples`, longest rows first.

    Ranks take turns in the sorted rows, so that they get the same work. With no
    `micro_batch_size` a micro-batch holds as many rows as fit into `PADDED_TOKENS`.
    """
    by_length = sorted(range(len(examples)), key=lambda place: (-examples[place].longest, place))
    batches: list[list[int]] = []
    for place in by_length[rank::world]:
        if not batches or len(batches[-1]) == _limit(examples[batches[-1][0]], micro_batch_size):
            batches.append([])
        batches[-1].append(place)
    return batches


def _limit(longest: Example, micro_batch_size: int | None) -> int:
    return micro_batch_size or max(1, PADDED_TOKENS // (longest.longest * len(longest.texts)))


@dataclass(frozen=True)
class MicroBatch:
    """Some rows as tensors: the texts of the first side of all rows, then those of the second.

    `t` texts of at most `n` tokens, `p` response tokens in all.
    """

    input_ids: torch.Tensor
    """`[t, n]`, padded on the right with 0. A causal model needs no mask for that: no response
    token can see what stands after it, and nothing else is read."""
    positions: torch.Tensor
    """`[p]` places in the flattened `[t * n]` whose next token is a response token."""
    targets: torch.Tensor
    """`[p]` those next tokens."""
    text_of: torch.Tensor
    """`[p]` number of the text that each belongs to."""
    lengths: torch.Tensor
    """`[t]` response tokens of each text."""
    weights: torch.Tensor
    """`[rows]`: what each row's loss is multiplied by."""


def pad(examples: Sequence[Example], device: torch.device) -> MicroBatch:
    """The tensors of some rows on `device`; at least one row, all with the same sides."""
    import torch

    sides = range(len(examples[0].texts))
    texts = [example.texts[side] for side in sides for example in examples]
    width = max(len(text.ids) for text in texts)
    ids = np.zeros((len(texts), width), dtype=np.int64)
    for number, text in enumerate(texts):
        ids[number, : len(text.ids)] = text.ids
    lengths = np.array([text.length for text in texts])
    places = [n * width + np.arange(t.start, len(t.ids)) - 1 for n, t in enumerate(texts)]
    positions = np.concatenate(places)
    arrays = {
        "input_ids": ids, "positions": positions, "targets": ids.reshape(-1)[positions + 1],
        "text_of": np.repeat(np.arange(len(texts)), lengths), "lengths": lengths,
        "weights": np.array([example.weight for example in examples]),
    }  # fmt: skip
    return MicroBatch(**{name: torch.from_numpy(a).to(device) for name, a in arrays.items()})

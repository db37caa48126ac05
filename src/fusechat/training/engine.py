"""How one step's rows become gradients.

The loop asks an `Engine` for two things only: the gradients of a step, and log-probabilities
without gradients (for the reference). `PackedEngine` computes no padding and may compute a prompt
once for all responses of a row; `PaddedEngine` is the plain path, for models that cannot be packed.
Both cut a step into micro-batches, and redo it in smaller ones where memory ran out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fusechat.training.batches import MicroBatch, cut, pad
from fusechat.training.examples import Example
from fusechat.training.logps import response_logps
from fusechat.training.oom import (
    free_cached_memory,
    is_out_of_memory,
    no_room_beside_others,
    no_room_for_one_row,
)
from fusechat.training.packing import Totals, computed_tokens, cut_bins, lay_out, shared_tokens
from fusechat.training.ranks import Ranks
from fusechat.training.reference import Known
from fusechat.training.step import Engine as Engine
from fusechat.training.step import StepResult as StepResult
from fusechat.training.step import Terms

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from fusechat.parts import Loss
    from fusechat.training.packed_model import PackedModel

Places = list[int]
Made = TypeVar("Made")


def _silent(text: str) -> None:
    """Notes nothing."""


class _MicroBatched:
    """A step in micro-batches, one forward and one backward pass each.

    A step's loss is the weighted sum of its row losses over all ranks, divided by what the loss
    says (`Loss.reduction`).
    """

    loss: Loss
    ranks: Ranks
    note: Callable[[str], None]
    lockstep: bool
    """Whether ranks wait for each other inside micro-batches, so that no one can do one again."""

    def logps(self, examples: Sequence[Example]) -> torch.Tensor:
        """See `Engine.logps`."""
        return self.ranks.sum_(self._with_room(lambda: self._logps(examples), examples))

    def backward(self, examples: Sequence[Example], known: Known, progress: float) -> StepResult:
        """See `Engine.backward`. There must be no gradients yet."""
        result = self._with_room(lambda: self._gradients(examples, known, progress), examples)
        self.ranks.sum_gradients_(self._module().parameters())
        self.ranks.sum_(result.sums)
        return result

    def _logps(self, examples: Sequence[Example]) -> torch.Tensor:
        import torch

        sides = len(self.loss.sides)
        out = torch.zeros(len(examples), sides, dtype=torch.float64, device=self.ranks.device)
        with torch.no_grad():
            for places, batch in self._batches(examples):
                made = self._forward(batch)
                if places:
                    out[places] = made.reshape(sides, -1).T
        return out

    def _gradients(self, examples: Sequence[Example], known: Known, progress: float) -> StepResult:
        import torch

        terms = Terms(self.loss)
        divisor = terms.divisor(examples)
        result = terms.empty_result(self.ranks.device)
        for places, batch in self._batches(examples):
            made = self._forward(batch)
            if not places:  # only keeps step with other ranks
                torch.autograd.backward(made.sum() * 0.0)
                continue
            logps, lengths = terms.named(made, batch.lengths, known.rows(places))
            losses, metrics = self.loss(logps, lengths, progress)
            share = (losses * batch.weights).sum() / divisor
            torch.autograd.backward(share)
            result.sums += terms.sums(share, metrics, logps, lengths)
            result.row_losses.append((places, losses.detach()))
        return result

    def _with_room(self, attempt: Callable[[], Made], examples: Sequence[Example]) -> Made:
        """What `attempt` makes, by smaller micro-batches from the moment where memory runs out."""
        while True:
            said = ""
            try:
                made = attempt()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                # Outside of this block nothing holds the tensors of the failed attempt.
                said = str(error) or type(error).__name__
            if not self._any_rank(bool(said)):
                return made
            for parameter in self._module().parameters():
                parameter.grad = None
            free_cached_memory()
            self._shrink(examples, said or "another rank ran out of memory")

    def _any_rank(self, failed: bool) -> bool:
        """Whether an attempt failed on any rank, asked of all; where that cannot be, of this."""
        import torch

        if self.ranks.world == 1 or self.lockstep:
            return failed
        count = torch.tensor(float(failed), dtype=torch.float64, device=self.ranks.device)
        return bool(self.ranks.sum_(count).item())

    def _shrink(self, examples: Sequence[Example], said: str) -> None:
        """Halve the micro-batches of this and all later steps; the same on every rank."""
        raise NotImplementedError

    def _batches(self, examples: Sequence[Example]) -> Iterator[tuple[Places, Any]]:
        raise NotImplementedError

    def _forward(self, batch: Any) -> torch.Tensor:
        raise NotImplementedError

    def _module(self) -> torch.nn.Module:
        raise NotImplementedError


@dataclass
class PackedEngine(_MicroBatched):
    """Bins of whole rows without padding: see `packing`."""

    module: PackedModel
    loss: Loss
    ranks: Ranks
    budget: int
    """Computed tokens of a bin, at most, where it holds more than one row."""
    share: bool = False
    """Whether one copy serves what the texts of a row begin with."""
    note: Callable[[str], None] = _silent
    lockstep: bool = False
    """Every rank runs the same number of bins, as FSDP needs it."""
    totals: Totals | None = None
    """Of the whole data set, where they are known."""

    def _batches(self, examples: Sequence[Example]) -> Iterator[tuple[Places, Any]]:
        from fusechat.training.packed_model import to_device

        shared, costs = self._costs(examples)
        ranks = self.ranks
        for places in cut_bins(costs, self.budget, ranks.rank, ranks.world, self.lockstep):
            rows = [examples[place] for place in places]
            yield places, to_device(lay_out(rows, [shared[p] for p in places]), ranks.device)

    def _forward(self, batch: Any) -> torch.Tensor:
        made: torch.Tensor = self.module(batch)
        return made

    def _module(self) -> torch.nn.Module:
        return self.module

    def route(self) -> dict[str, Any]:
        """See `Engine.route`."""
        module = self.module
        return {"engine": "packed", "attention": module.backend.name, "halved": module.head.halved}

    def cuts(self) -> dict[str, Any]:
        """See `Engine.cuts`."""
        return {"tokens": self.budget, "share": self.share, "ranks": self.ranks.world}

    def counts(self) -> dict[str, Any]:
        """See `Engine.counts`."""
        if self.totals is None:
            return {}
        computed = self.totals.shared if self.share else self.totals.unshared
        return {
            "tokens": self.totals.unshared, "computed_tokens": computed,
            "shared_prompts": self.share,
        }  # fmt: skip

    def _costs(self, examples: Sequence[Example]) -> tuple[list[int], list[int]]:
        """Of each row, the tokens that its texts share and those that it computes."""
        shared = [shared_tokens(example, self.share) for example in examples]
        return shared, [computed_tokens(e, s) for e, s in zip(examples, shared, strict=True)]

    def _shrink(self, examples: Sequence[Example], said: str) -> None:
        _, costs = self._costs(examples)
        world = self.ranks.world
        bins = [b for rank in range(world) for b in cut_bins(costs, self.budget, rank, world)]
        if self.lockstep and world > 1:
            largest = max(sum(costs[row] for row in rows) for rows in bins)
            raise no_room_beside_others(min(largest, self.budget), said)
        if all(len(rows) <= 1 for rows in bins):
            raise no_room_for_one_row(max(costs), said)
        self.budget = max(sum(costs[row] for row in rows) for rows in bins if len(rows) > 1) // 2
        self.note(
            f"out of memory: the step is done again, from here on with {self.budget} tokens at a "
            "time (micro_batch_tokens)"
        )


@dataclass
class PaddedEngine(_MicroBatched):
    """Right-padded micro-batches of rows of like length."""

    model: PreTrainedModel
    loss: Loss
    ranks: Ranks
    micro_batch_size: int | None = None
    """Rows of a micro-batch; None: as many as fit into `batches.PADDED_TOKENS`."""
    autocast: Callable[[], AbstractContextManager[object]] | None = None
    """Makes the context of a forward pass (mixed precision); None: float32."""
    note: Callable[[str], None] = _silent
    lockstep: bool = False
    """Every rank runs the same number of micro-batches, as FSDP needs it."""

    def _batches(self, examples: Sequence[Example]) -> Iterator[tuple[Places, Any]]:
        own = self._cuts(examples, self.ranks.rank)
        for places in own:
            yield places, pad([examples[place] for place in places], self.ranks.device)
        if self.lockstep:
            most = max(len(self._cuts(examples, rank)) for rank in range(self.ranks.world))
            for _ in range(most - len(own)):
                yield [], pad(examples[:1], self.ranks.device)

    def _cuts(self, examples: Sequence[Example], rank: int) -> list[Places]:
        return cut(examples, self.micro_batch_size, rank, self.ranks.world)

    def _forward(self, batch: MicroBatch) -> torch.Tensor:
        if self.autocast is None:
            return response_logps(self.model, batch)
        with self.autocast():
            return response_logps(self.model, batch)

    def _module(self) -> torch.nn.Module:
        module: torch.nn.Module = self.model
        return module

    def route(self) -> dict[str, Any]:
        """See `Engine.route`."""
        return {"engine": "padded"}

    def cuts(self) -> dict[str, Any]:
        """See `Engine.cuts`."""
        return {"rows": self.micro_batch_size, "ranks": self.ranks.world}

    def counts(self) -> dict[str, Any]:
        """See `Engine.counts`."""
        return {}

    def _shrink(self, examples: Sequence[Example], said: str) -> None:
        sizes = [
            len(rows) for rank in range(self.ranks.world) for rows in self._cuts(examples, rank)
        ]
        if max(sizes) == 1:
            raise no_room_for_one_row(max(e.longest * len(e.texts) for e in examples), said)
        self.micro_batch_size = max(sizes) // 2
        self.note(
            f"out of memory: the step is done again, from here on with {self.micro_batch_size} "
            "rows at a time (micro_batch_size)"
        )

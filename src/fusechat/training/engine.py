"""How one step's rows become gradients: the piece that a faster engine replaces.

The loop asks an `Engine` for two things only: the gradients of a step, and log-probabilities
without gradients (for the reference). `PaddedEngine` does both with plain padded batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from fusechat.training.batches import MicroBatch, cut, pad
from fusechat.training.examples import Example
from fusechat.training.logps import response_logps
from fusechat.training.ranks import Ranks
from fusechat.training.reference import Known

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from fusechat.parts import Loss

Named = dict[str, "torch.Tensor"]


@dataclass
class StepResult:
    """What one step gave, apart from the gradients it left on the parameters."""

    names: list[str]
    sums: torch.Tensor
    """float64 `[len(names)]`, over the rows of all ranks; the first is the step's loss."""
    row_losses: list[tuple[list[int], torch.Tensor]] = field(default_factory=list)
    """This rank's rows (places in the step) and their losses, to name a row by if one is bad."""


class Engine(Protocol):
    """Computes steps. Results must not depend on how it cuts them, beyond rounding."""

    def logps(self, examples: Sequence[Example]) -> torch.Tensor:
        """Summed response log-probabilities, nats, float64 `[rows, sides]`, without gradients.

        The same on every rank.
        """
        ...

    def backward(self, examples: Sequence[Example], known: Known, progress: float) -> StepResult:
        """Leave the step's gradient, summed over all ranks, on the parameters.

        `known`: of these rows, what the loss needs of it. `progress`: share of training done, in
        [0, 1].
        """
        ...


@dataclass
class PaddedEngine:
    """Right-padded micro-batches of rows of like length, one forward and backward each.

    A step's loss is the weighted sum of its row losses over all ranks, divided by its rows, or
    by its response tokens where the loss says so (`Loss.reduction`).
    """

    model: PreTrainedModel
    loss: Loss
    ranks: Ranks
    micro_batch_size: int | None = None
    """Rows of a micro-batch; None: as many as fit into `batches.PADDED_TOKENS`."""
    autocast: Callable[[], AbstractContextManager[object]] | None = None
    """Makes the context of a forward pass (mixed precision); None: float32."""

    def logps(self, examples: Sequence[Example]) -> torch.Tensor:
        """See `Engine.logps`."""
        import torch

        shape = len(examples), len(self._sides)
        out = torch.zeros(shape, dtype=torch.float64, device=self.ranks.device)
        with torch.no_grad():
            for places, batch in self._batches(examples):
                out[places] = self._forward(batch).reshape(len(self._sides), -1).T
        return self.ranks.sum_(out)

    def backward(self, examples: Sequence[Example], known: Known, progress: float) -> StepResult:
        """See `Engine.backward`."""
        divisor = self._divisor(examples)
        result = self._empty_result()
        for places, batch in self._batches(examples):
            logps, lengths = self._named(self._forward(batch), batch, known.rows(places))
            losses, metrics = self.loss(logps, lengths, progress)
            share = (losses * batch.weights).sum() / divisor
            share.backward()  # type: ignore[no-untyped-call]
            result.sums += self._sums(share, metrics, logps, lengths)
            result.row_losses.append((places, losses.detach()))
        self.ranks.sum_gradients_(self.model.parameters())
        self.ranks.sum_(result.sums)
        return result

    def _divisor(self, examples: Sequence[Example]) -> float:
        """What the step's sum is divided by: see `Loss.reduction`."""
        if self.loss.reduction == "rows":
            return len(examples)
        if self.loss.reduction == "weights":
            return sum(example.weight for example in examples)
        counted = self._sides if self.loss.counted is None else self.loss.counted
        places = [self._sides.index(side) for side in counted]
        weighted = self.loss.reduction == "weighted_tokens"
        return sum(
            (e.weight if weighted else 1) * e.texts[place].length
            for e in examples
            for place in places
        )

    @property
    def _sides(self) -> tuple[str, ...]:
        return self.loss.sides

    def _batches(self, examples: Sequence[Example]) -> list[tuple[list[int], MicroBatch]]:
        cuts = cut(examples, self.micro_batch_size, self.ranks.rank, self.ranks.world)
        return [(c, pad([examples[place] for place in c], self.ranks.device)) for c in cuts]

    def _forward(self, batch: MicroBatch) -> torch.Tensor:
        if self.autocast is None:
            return response_logps(self.model, batch)
        with self.autocast():
            return response_logps(self.model, batch)

    def _named(self, logps: torch.Tensor, batch: MicroBatch, known: Known) -> tuple[Named, Named]:
        chunks = len(self._sides)
        named = dict(zip(self._sides, logps.chunk(chunks), strict=True))
        lengths = dict(zip(self._sides, batch.lengths.chunk(chunks), strict=True))
        for place, side in enumerate(self._sides):
            if known.reference is not None:
                named[f"reference_{side}"] = known.reference[:, place].to(logps)
            if known.source_logps is not None and known.source_lengths is not None:
                named[f"sources_{side}"] = known.source_logps[:, place].to(logps)
                lengths[f"sources_{side}"] = known.source_lengths[:, place]
        return named, lengths

    def _sums(
        self, loss: torch.Tensor, metrics: Named, logps: Named, lengths: Named
    ) -> torch.Tensor:
        import torch

        columns = [metrics[name].double() for name in sorted(metrics)]
        for side in self._sides:
            summed = logps[side].detach()
            columns += [summed, summed / lengths[side].clamp(min=1), lengths[side].double()]
        rows = torch.stack(columns).sum(1)
        return torch.cat([loss.detach().reshape(1), rows])

    def _empty_result(self) -> StepResult:
        # The loss is asked for its metrics on no rows, since a rank may have none in a step.
        import torch

        none = torch.zeros(0, device=self.ranks.device)
        logps = {f"{kind}{s}": none for s in self._sides for kind in ("", "reference_")}
        lengths = dict.fromkeys(self._sides, none)
        for side in self._sides if self.loss.needs_sources else ():
            logps[f"sources_{side}"] = lengths[f"sources_{side}"] = none.reshape(0, 1)
        metrics = sorted(self.loss(logps, lengths, 0.0)[1])
        sides = [f"{n}_{s}" for s in self._sides for n in ("logps", "token_logps", "lengths")]
        names = ["loss", *metrics, *sides]
        zeros = torch.zeros(len(names), dtype=torch.float64, device=self.ranks.device)
        return StepResult(names, zeros)

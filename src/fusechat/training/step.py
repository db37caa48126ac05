"""What every engine shares: from log-probabilities of some rows to the step's loss and sums.

A step's loss is the weighted sum of its row losses over all micro-batches and ranks, divided once
by what `Loss.reduction` counts over the whole step. So no cut of a step into micro-batches or
ranks changes it beyond rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fusechat.training.examples import Example
from fusechat.training.reference import Known

if TYPE_CHECKING:
    import torch

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

    def route(self) -> dict[str, Any]:
        """JSON of how it computes: log-probabilities of another route differ in rounding."""
        ...

    def cuts(self) -> dict[str, Any]:
        """JSON of how it cuts steps, which decides the last bits of what comes out on a CPU."""
        ...

    def counts(self) -> dict[str, Any]:
        """For the unit's manifest: `tokens` of all texts of the data set, those of them that are
        computed (`computed_tokens`), and whether prompts are shared (`shared_prompts`)."""
        ...


@dataclass(frozen=True)
class Terms:
    """The loss terms of some texts that were computed together.

    Texts stand as those of the first side of all rows, then those of the second, and so on.
    """

    loss: Loss

    @property
    def sides(self) -> tuple[str, ...]:
        """Names of the texts of a row, in their order."""
        return self.loss.sides

    def divisor(self, examples: Sequence[Example]) -> float:
        """What the step's sum is divided by: see `Loss.reduction`. `examples`: the whole step."""
        if self.loss.reduction == "rows":
            return len(examples)
        if self.loss.reduction == "weights":
            return sum(example.weight for example in examples)
        counted = self.sides if self.loss.counted is None else self.loss.counted
        places = [self.sides.index(side) for side in counted]
        weighted = self.loss.reduction == "weighted_tokens"
        return sum(
            (e.weight if weighted else 1) * e.texts[place].length
            for e in examples
            for place in places
        )

    def named(
        self, logps: torch.Tensor, lengths: torch.Tensor, known: Known
    ) -> tuple[Named, Named]:
        """What the loss is called with, of `logps` and `lengths` `[texts]`, and of what is known.

        `known`: of these rows.
        """
        chunks = len(self.sides)
        named = dict(zip(self.sides, logps.chunk(chunks), strict=True))
        counts = dict(zip(self.sides, lengths.chunk(chunks), strict=True))
        for place, side in enumerate(self.sides):
            if known.reference is not None:
                named[f"reference_{side}"] = known.reference[:, place].to(logps)
            if known.source_logps is not None and known.source_lengths is not None:
                named[f"sources_{side}"] = known.source_logps[:, place].to(logps)
                counts[f"sources_{side}"] = known.source_lengths[:, place]
        return named, counts

    def sums(
        self, loss: torch.Tensor, metrics: Named, logps: Named, lengths: Named
    ) -> torch.Tensor:
        """Sums over some rows, float64, in the order of `empty_result().names`."""
        import torch

        columns = [metrics[name].double() for name in sorted(metrics)]
        for side in self.sides:
            summed = logps[side].detach()
            columns += [summed, summed / lengths[side].clamp(min=1), lengths[side].double()]
        rows = torch.stack(columns).sum(1)
        return torch.cat([loss.detach().reshape(1), rows])

    def empty_result(self, device: torch.device) -> StepResult:
        """A step of no rows yet."""
        # The loss is asked for its metrics on no rows, since a rank may have none in a step.
        import torch

        none = torch.zeros(0, device=device)
        logps = {f"{kind}{s}": none for s in self.sides for kind in ("", "reference_")}
        lengths = dict.fromkeys(self.sides, none)
        for side in self.sides if self.loss.needs_sources else ():
            logps[f"sources_{side}"] = lengths[f"sources_{side}"] = none.reshape(0, 1)
        metrics = sorted(self.loss(logps, lengths, 0.0)[1])
        sides = [f"{n}_{s}" for s in self.sides for n in ("logps", "token_logps", "lengths")]
        names = ["loss", *metrics, *sides]
        return StepResult(names, torch.zeros(len(names), dtype=torch.float64, device=device))

"""How many steps there are, how fast each learns, and after which of them to save.

Everything here is a pure function of the settings and the number of rows, so that a resumed
run has nothing to remember but the number of its step. The conventions are those of
Hugging Face's `Trainer`: a last, smaller batch is a step, and shares are rounded up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from fusechat.stages.train_settings import TrainingSettings


@dataclass(frozen=True)
class Schedule:
    """Steps of one training run; they are counted from 1."""

    rows: int
    """Of the data set."""
    batch: int
    """Rows of a step; the last step of an epoch may have fewer."""
    steps_per_epoch: int
    total: int
    """Steps of the whole run."""
    warmup: int
    """Steps of linear warm-up."""
    kind: str
    """How the rate falls after it: `cosine`, `linear` or `constant`."""
    peak: float
    """The highest learning rate."""
    save_steps: int
    """Steps between two checkpoints."""

    @classmethod
    def of(cls, settings: TrainingSettings, rows: int) -> Self:
        """The schedule for a data set of `rows` rows."""
        per_epoch = math.ceil(rows / settings.global_batch_size)
        total = _round_up(settings.num_train_epochs * per_epoch)
        share = settings.warmup_steps < 1
        warmup = _round_up(settings.warmup_steps * (total if share else 1))
        return cls(
            rows=rows, batch=settings.global_batch_size, steps_per_epoch=per_epoch, total=total,
            warmup=warmup, kind=settings.lr_scheduler_type, peak=settings.learning_rate,
            save_steps=settings.save_steps,
        )  # fmt: skip

    def learning_rate(self, step: int) -> float:
        """Learning rate of step `step`: linear from 0 over the warm-up, then to 0 by its kind.

        With `d` steps done, warm-up `w` and total `t`: `peak d / w` while `d < w`; then, with
        `s = (d - w) / (t - w)`, `peak (1 + cos(pi s)) / 2`, `peak (1 - s)` or `peak`. As in
        `transformers.get_scheduler`, the first step of a warm-up has rate 0.
        """
        done = step - 1
        if done < self.warmup:
            return self.peak * done / self.warmup
        if self.kind == "constant":
            return self.peak
        share = (done - self.warmup) / max(1, self.total - self.warmup)
        left = (1.0 + math.cos(math.pi * share)) / 2 if self.kind == "cosine" else 1.0 - share
        return self.peak * max(0.0, left)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written after step `step`."""
        return step % self.save_steps == 0

    def place(self, step: int) -> tuple[int, slice]:
        """Epoch of step `step`, from 0, and which places of that epoch's order it trains on."""
        epoch, number = divmod(step - 1, self.steps_per_epoch)
        return epoch, slice(number * self.batch, min((number + 1) * self.batch, self.rows))


def _round_up(value: float) -> int:
    # 0.07 x 100 is 7.000000000000001 in floating point, and 7 steps.
    return math.ceil(round(value, 6))

"""`metrics.jsonl`: one line for each step, the same bytes whether or not the run was killed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat.errors import TrainingError
from fusechat.files import append_jsonl, read_jsonl, write_atomic
from fusechat.training.engine import StepResult
from fusechat.training.examples import Example

Line = dict[str, Any]


@dataclass(frozen=True)
class MetricsLog:
    """The file of one run.

    A line has `step`, `epoch` (passes over the data done after it), `learning_rate`,
    `grad_norm` (before clipping), `rows`, `loss`; the loss's own metrics, for preferences
    `rewards_chosen`, `rewards_rejected`, `margins` (per token where the loss is), `accuracies`;
    and for each side (`response`, or `chosen` and `rejected`) `logps_*` (nats of a whole
    response), `token_logps_*` (nats of a token) and `lengths_*`: means over the step's rows.
    """

    path: Path

    def start(self, step: int) -> None:
        """Keep the lines up to `step`, which is where the run goes on."""
        kept = [line for line in read_jsonl(self.path) if line["step"] <= step]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
        write_atomic(self.path, text.encode())

    def append(self, line: Line) -> None:
        """Add a line; it is durable when this returns."""
        append_jsonl(self.path, line)

    def last_means(self, steps: int = 10) -> dict[str, float]:
        """Mean of each number over the last `steps` lines; `step`, `epoch`, `rows` are left out."""
        lines = list(read_jsonl(self.path))[-steps:]
        names = [name for name in lines[-1] if name not in ("step", "epoch", "rows")]
        return {name: sum(line[name] for line in lines) / len(lines) for name in names}


def step_means(result: StepResult, rows: int, grad_norm: float, sums: Sequence[float]) -> Line:
    """The line of a step: the loss as it is, everything else as a mean over the step's rows.

    `sums`: the values of `result.sums`, by `result.names`. `grad_norm`: L2, before clipping.
    """
    means = {name: total / rows for name, total in zip(result.names, sums, strict=True)}
    return {"rows": rows, **means, "loss": sums[0], "grad_norm": grad_norm}


def refuse_non_finite(
    line: Line, step: int, result: StepResult, examples: Sequence[Example]
) -> None:
    """Raise `TrainingError` naming step and rows if the loss or the gradient is not finite."""
    if math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]):
        return
    bad = [
        examples[place].prompt_id
        for places, losses in result.row_losses
        for place, loss in zip(places, losses.tolist(), strict=True)
        if not math.isfinite(loss)
    ]
    what = "loss" if bad else "gradient"
    rows = bad or [example.prompt_id for example in examples]
    more = f" and {len(rows) - 8} more" if len(rows) > 8 else ""
    raise TrainingError(
        f"the {what} of step {step} is not finite; rows (prompt ids): {', '.join(rows[:8])}{more}. "
        "Look at those rows, lower learning_rate, or train in float32. No weights were changed."
    )

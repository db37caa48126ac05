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
from fusechat.training.bad_batch import named, save_bad_batch
from fusechat.training.examples import Example
from fusechat.training.ranks import Ranks
from fusechat.training.step import StepResult

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
    line: Line,
    result: StepResult,
    examples: Sequence[Example],
    *,
    ranks: Ranks,
    folder: Path,
) -> None:
    """Raise `TrainingError` naming step and rows if a step's loss or gradient is not finite.

    `line`: with `step`, the same on every rank. The step's rows are saved in `folder`/`bad_batch`.
    """
    if math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]):
        return
    losses = _losses_of_all_ranks(result, len(examples), ranks)
    bad = [e for e, loss in zip(examples, losses, strict=True) if not math.isfinite(loss)]
    what = "gradient" if math.isfinite(line["loss"]) else "loss"
    numbers = {name: str(line[name]) for name in ("loss", "grad_norm")}
    saved = folder / "bad_batch"
    if ranks.main:
        save_bad_batch(folder, examples, {"what": what, "step": line["step"], **numbers}, losses)
    ranks.wait()
    raise TrainingError(
        f"the {what} of step {line['step']} is not finite; {named(bad or examples)}. The step's "
        f"rows, token ids and losses are in {saved}. Look at those rows, lower learning_rate, or "
        "train in float32. No weights were changed."
    )


def _losses_of_all_ranks(result: StepResult, rows: int, ranks: Ranks) -> list[float]:
    import torch

    losses = torch.zeros(rows, dtype=torch.float64, device=ranks.device)
    for places, own in result.row_losses:
        losses[places] = own.double()
    found: list[float] = ranks.sum_(losses).tolist()
    return found

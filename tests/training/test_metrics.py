"""`metrics.jsonl`, and runs that must stop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_tiny import random_examples

from fusechat.errors import TrainingError
from fusechat.files import read_jsonl
from fusechat.training.engine import StepResult
from fusechat.training.metrics import MetricsLog, refuse_non_finite, step_means

NAN, INF = float("nan"), float("inf")


def test_a_resumed_run_keeps_the_lines_up_to_its_step_and_drops_a_torn_one(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.start(0)
    for step in (1, 2, 3):
        log.append({"step": step, "loss": step / 3})
    with log.path.open("a") as handle:
        handle.write('{"step": 4, "lo')
    log.start(2)
    log.append({"step": 3, "loss": 5.0})
    assert [line["step"] for line in read_jsonl(log.path)] == [1, 2, 3]
    assert log.path.read_text().splitlines()[0] == '{"step": 1, "loss": 0.3333333333333333}'


def test_means_over_the_last_lines_leave_the_counters_out(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(1, 5):
        log.append({"step": step, "epoch": 1.0, "rows": 8, "loss": float(step)})
    assert log.last_means(2) == {"loss": 3.5}


def test_a_line_holds_the_loss_as_it_is_and_means_of_the_rest() -> None:
    result = StepResult(["loss", "margins"], torch.zeros(2))
    line = step_means(result, 4, 0.5, [0.7, 2.0])
    assert line == {"rows": 4, "loss": 0.7, "margins": 0.5, "grad_norm": 0.5}


@pytest.mark.parametrize(
    ("loss", "norm", "row_losses", "message"),
    [
        (NAN, NAN, [1.0, NAN, 1.0], r"the loss of step 7 is not finite.*p2\."),
        (INF, 1.0, [INF, 1.0, INF], r"the loss of step 7 is not finite.*p0, p1\."),
        (1.0, INF, [1.0, 1.0, 1.0], r"the gradient of step 7 is not finite.*p0, p1, p2\."),
    ],
)
def test_a_loss_or_gradient_that_is_not_finite_stops_naming_step_and_rows(
    loss: float, norm: float, row_losses: list[float], message: str
) -> None:
    # The losses are of the rows 0, 2 and 1, as a micro-batch sorted them.
    result = StepResult(["loss"], torch.zeros(1), [([0, 2, 1], torch.tensor(row_losses))])
    with pytest.raises(TrainingError, match=message):
        refuse_non_finite({"loss": loss, "grad_norm": norm}, 7, result, random_examples(3, 1))


def test_a_finite_step_passes() -> None:
    result = StepResult(["loss"], torch.zeros(1))
    refuse_non_finite({"loss": 1.0, "grad_norm": 0.0}, 1, result, random_examples(2, 1))

"""`metrics.jsonl`, and runs that must stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from training_tiny import random_examples

from fusechat.errors import TrainingError
from fusechat.files import read_json, read_jsonl
from fusechat.training.engine import StepResult
from fusechat.training.metrics import MetricsLog, refuse_non_finite, step_means
from fusechat.training.ranks import Ranks

NAN, INF = float("nan"), float("inf")
ALONE = Ranks(torch.device("cpu"))


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
        (NAN, NAN, [1.0, NAN, 1.0], r"the loss of step 7 is not finite.*: p2\. .*bad_batch"),
        (INF, 1.0, [INF, 1.0, INF], r"the loss of step 7 is not finite.*: p0, p1\. "),
        (1.0, INF, [1.0, 1.0, 1.0], r"the gradient of step 7 is not finite.*: p0, p1, p2\. "),
    ],
)
def test_a_loss_or_gradient_that_is_not_finite_stops_naming_step_and_rows(
    loss: float, norm: float, row_losses: list[float], message: str, tmp_path: Path
) -> None:
    # The losses are of the rows 0, 2 and 1, as a micro-batch sorted them.
    result = StepResult(["loss"], torch.zeros(1), [([0, 2, 1], torch.tensor(row_losses))])
    line = {"step": 7, "loss": loss, "grad_norm": norm}
    with pytest.raises(TrainingError, match=message):
        refuse_non_finite(line, result, random_examples(3, 1), ranks=ALONE, folder=tmp_path)


def test_the_rows_of_a_step_that_is_not_finite_are_saved_with_ids_tokens_and_losses(
    tmp_path: Path,
) -> None:
    rows = random_examples(3, 2)
    rows[1] = replace(rows[1], response_ids=("c1", "r1"), weight=0.5)
    result = StepResult(["loss"], torch.zeros(1), [([2, 1], torch.tensor([NAN, 0.25]))])
    line = {"step": 3, "loss": NAN, "grad_norm": INF}
    with pytest.raises(TrainingError):
        refuse_non_finite(line, result, rows, ranks=ALONE, folder=tmp_path)
    said = read_json(tmp_path / "bad_batch" / "batch.json")
    assert (said["step"], said["what"], said["loss"]) == (3, "loss", "nan")
    assert [row["loss"] for row in said["rows"]] == [0.0, 0.25, "nan"]
    assert said["rows"][1]["response_ids"] == ["c1", "r1"]
    assert said["rows"][1]["weight"] == 0.5
    tensors = load_file(tmp_path / "bad_batch" / "texts.safetensors")
    texts = np.split(tensors["ids"], np.cumsum(tensors["lengths"])[:-1])
    wanted = [text.ids.tolist() for row in rows for text in row.texts]
    assert [ids.tolist() for ids in texts] == wanted
    assert said["rows"][0]["starts"] == [text.start for text in rows[0].texts]


def test_a_finite_step_passes(tmp_path: Path) -> None:
    result = StepResult(["loss"], torch.zeros(1))
    line = {"step": 1, "loss": 1.0, "grad_norm": 0.0}
    refuse_non_finite(line, result, random_examples(2, 1), ranks=ALONE, folder=tmp_path)
    assert not list(tmp_path.iterdir())

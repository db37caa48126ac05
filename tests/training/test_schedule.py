"""Steps, warm-up, learning rates and saves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_scheduler

from fusechat.stages.train_settings import DpoSettings, SftSettings
from fusechat.training.schedule import Schedule


def test_the_papers_dpo_run_has_501_steps_51_of_warm_up_and_saves_at_100_to_500() -> None:
    schedule = Schedule.of(DpoSettings(), 64_128)
    assert (schedule.total, schedule.warmup) == (501, 51)
    saves = [step for step in range(1, schedule.total + 1) if schedule.saves(step)]
    assert saves == [100, 200, 300, 400, 500]


def test_the_papers_sft_run_has_739_steps_an_epoch() -> None:
    # 94,539 / 128 = 738.6; the last, smaller batch of each epoch is a step.
    schedule = Schedule.of(SftSettings(), 94_539)
    assert (schedule.steps_per_epoch, schedule.total, schedule.warmup) == (739, 2217, 222)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 7.0])
def test_learning_rates_equal_transformers(kind: Any, warmup: float) -> None:
    settings = SftSettings(
        lr_scheduler_type=kind, warmup_steps=warmup, learning_rate=0.5,
        global_batch_size=4, num_train_epochs=2,
    )  # fmt: skip
    schedule = Schedule.of(settings, 61)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    name = "constant_with_warmup" if kind == "constant" else kind
    theirs = get_scheduler(name, optimizer, schedule.warmup, schedule.total)
    for step in range(1, schedule.total + 1):
        expected = theirs.get_last_lr()[0]
        assert schedule.learning_rate(step) == pytest.approx(expected, rel=1e-12, abs=1e-15)
        optimizer.step()
        theirs.step()


def test_a_share_is_not_rounded_up_for_a_floating_point_speck() -> None:
    # 0.07 * 100 == 7.000000000000001
    settings = SftSettings(warmup_steps=0.07, global_batch_size=1, num_train_epochs=1)
    assert Schedule.of(settings, 100).warmup == 7


def test_half_an_epoch_is_half_of_its_steps() -> None:
    settings = SftSettings(num_train_epochs=0.5, global_batch_size=10)
    assert Schedule.of(settings, 95).total == 5


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 3))
def test_every_row_is_seen_once_in_each_epoch(rows: int, batch: int, epochs: int) -> None:
    settings = SftSettings(global_batch_size=batch, num_train_epochs=epochs)
    schedule = Schedule.of(settings, rows)
    seen: dict[int, list[int]] = {}
    for step in range(1, schedule.total + 1):
        epoch, places = schedule.place(step)
        seen.setdefault(epoch, []).extend(range(rows)[places])
    assert seen == {epoch: list(range(rows)) for epoch in range(epochs)}

"""Two trial steps before a run: they tell of memory and time, and change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from training_tiny import bytes_of, make_tokenizer, random_examples, save_base

from fusechat.errors import TrainingError
from fusechat.files import read_json
from fusechat.losses.dpo import Dpo
from fusechat.parts import Where
from fusechat.progress import Progress, quiet
from fusechat.stages.train_settings import DpoSettings, LoraSettings
from fusechat.training import trial
from fusechat.training.examples import Example, Text
from fusechat.training.flops import load_of, step_flops
from fusechat.training.loop import Job, train
from fusechat.training.memory import RESERVE, How, Needs, choose
from fusechat.training.memory_plan import Planned
from fusechat.training.memory_shapes import Shape
from fusechat.training.ranks import Ranks
from fusechat.training.schedule import Schedule

SETTINGS = DpoSettings(
    loss=Dpo(beta=0.5), learning_rate=1e-2, num_train_epochs=2, global_batch_size=3, save_steps=2
)
TINY = Shape(2, 16, 2, 1, 8, 32, 66, False)


def _job(folder: Path, base: Path) -> Job:
    return Job(
        folder=folder, base=base, tokenizer=make_tokenizer(), examples=random_examples(8, 2),
        settings=SETTINGS, identity={}, seed=1, where=Where(device="cpu"), progress=quiet(),
    )  # fmt: skip


def test_a_run_with_a_trial_writes_the_very_bytes_of_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_base(tmp_path / "base")
    train(_job(tmp_path / "without", base))
    monkeypatch.setattr(trial, "FEW_ON_CPU", 1)
    train(_job(tmp_path / "with", base))
    without, found = bytes_of(tmp_path / "without"), bytes_of(tmp_path / "with")
    assert found.pop("trial.json")
    assert "trial.json" not in without
    assert found == without
    written = read_json(tmp_path / "with" / "trial.json")
    assert written["device"] == "cpu"
    assert written["steps"] == 6
    assert written["seconds"] > 0
    assert written["rate"] == pytest.approx(written["flops"] / written["seconds"])
    assert written["peak"] is None


class _Kills:
    """An observer that ends a run after its step 3."""

    def begin(self, engine: Any, ranks: Any, step: int) -> None:
        self.begun = step

    def after(self, line: dict[str, Any]) -> None:
        if line["step"] == 3:
            raise KeyboardInterrupt

    def saved(self, engine: Any, step: int) -> None:
        pass

    def end(self) -> None:
        pass


def test_a_resumed_run_has_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "FEW_ON_CPU", 1)
    job = _job(tmp_path / "unit", save_base(tmp_path / "base"))
    with pytest.raises(KeyboardInterrupt):
        train(replace(job, observers=[_Kills()]))
    (job.folder / "trial.json").unlink()
    counts = train(job)
    assert counts["steps"] == 6
    assert not (job.folder / "trial.json").exists()


def test_random_numbers_go_on_as_if_no_trial_had_drawn_any() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    with trial._untouched(torch.device("cpu")):
        torch.rand(7)
    assert torch.equal(torch.rand(2), wanted)


def _row(number: int, prompt: int, *responses: int) -> Example:
    texts = [Text(np.arange(prompt + n, dtype=np.int32), prompt) for n in responses]
    return Example(f"p{number}", tuple(texts), 1.0)


def test_the_step_with_the_most_tokens_and_the_middle_one_are_tried() -> None:
    rows = [_row(n, 1, n + 1) for n in range(12)]  # 2 to 13 tokens
    schedule = Schedule.of(SETTINGS, len(rows))
    longest, middle = trial.trial_steps(rows, schedule, seed=4)
    sums: list[int] = []
    for step in range(1, schedule.total + 1):
        epoch, places = schedule.place(step)
        order = trial.epoch_order(12, 4, epoch)[places]
        sums.append(sum(row + 2 for row in order))
    assert sum(row + 2 for row in longest) == max(sums)
    assert sum(row + 2 for row in middle) == sorted(sums)[len(sums) // 2]


def test_a_trial_is_for_runs_that_are_long_enough() -> None:
    cpu, gpu = Ranks(torch.device("cpu")), Ranks(torch.device("cuda"))
    steps = {n: SimpleNamespace(total=n) for n in (49, 50, 499, 500)}
    assert [n for n, one in steps.items() if trial.wanted(gpu, one)] == [50, 499, 500]
    assert [n for n, one in steps.items() if trial.wanted(cpu, one)] == [500]


class _Steps:
    """An engine on a device of so many bytes, whose peak follows from its budget."""

    def __init__(self, budget: int) -> None:
        self.budget, self.seen = budget, list[int]()

    def peak(self) -> float:
        self.seen.append(self.budget)
        return 1000.0 * self.budget


class _Notes(Progress):
    def __init__(self) -> None:
        super().__init__("unit")
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def _confirm(
    monkeypatch: pytest.MonkeyPatch, folder: Path, budget: int, room: float, moments: float
) -> tuple[Any, _Steps, list[str]]:
    engine: Any = _Steps(budget)
    folder.mkdir()
    job = replace(_job(folder, folder), progress=_Notes(), settings=SETTINGS)
    planned = choose(TINY, How(mixed=False, device="cpu"), 1e12, 10)
    needs = Needs(0, 0, moments, 0, 0, 0)
    planned = replace(planned, needs=needs, options=("2 ranks fit",))
    monkeypatch.setattr(trial, "device_memory", lambda device: room)
    monkeypatch.setattr(trial, "FEW_ON_CPU", 1)
    monkeypatch.setattr(trial, "_measure", lambda *rest, **more: (engine.peak(), 2.0))
    schedule = Schedule.of(SETTINGS, len(job.examples))
    model: Any = None
    ranks = Ranks(torch.device("cpu"))
    known: Any = None
    found = trial.confirm(
        job,
        ranks,
        schedule=schedule,
        model=model,
        engine=engine,
        known=known,
        planned=Planned(False, None, planned, TINY),
    )
    return found, engine, job.progress.notes  # type: ignore[attr-defined]


def test_micro_batches_are_halved_until_the_optimizers_moments_have_room_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A step of 4096 tokens takes 4.096 MB, and 2.0 MB of moments come on top: 6.1 of 5 MB.
    found, engine, notes = _confirm(monkeypatch, tmp_path / "a", 4096, 5e6, 2e6)
    assert engine.seen == [4096, 2048, 2048]
    assert found.micro_batch == 2048
    assert found.peak == pytest.approx(2.048e6 + 2e6)
    assert any("2048" in note for note in notes)


def test_a_plan_that_holds_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, engine, notes = _confirm(monkeypatch, tmp_path / "a", 4096, 7e6, 2e6)
    assert engine.seen == [4096, 4096]
    assert (found.micro_batch, len(notes)) == (4096, 1)


def test_a_step_that_never_fits_stops_the_run_with_what_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrainingError, match=r"even in the smallest micro-batches\. 2 ranks fit"):
        _confirm(monkeypatch, tmp_path / "a", 4096, 1e6, 2e6)


def test_the_rate_counts_the_operations_that_were_run() -> None:
    job: Any = SimpleNamespace(examples=[_row(0, 4, 3, 2)], settings=SimpleNamespace(lora=None))
    planned = Planned(True, None, None, TINY)
    shared = trial._flops(job, SimpleNamespace(share=True), planned, [0])
    apart = trial._flops(job, SimpleNamespace(share=False), planned, [0])
    assert shared == step_flops(TINY, load_of([(4, 3), (4, 2)], 4), checkpointing=True)
    assert apart == step_flops(TINY, load_of([(4, 3), (4, 2)]), checkpointing=True) > shared
    adapters: Any = SimpleNamespace(
        examples=job.examples, settings=SimpleNamespace(lora=LoraSettings())
    )
    assert trial._flops(adapters, SimpleNamespace(share=False), planned, [0]) < apart


def test_the_line_says_what_was_planned_and_what_was_found() -> None:
    found = trial.Trial(
        device="H", seconds=4.0, longest_seconds=6.0, flops=8.0, ranks=2, steps=1800, peak=RESERVE,
        predicted=2e9, room=80e9, micro_batch=8192,
    )  # fmt: skip
    assert found.rate == 1.0
    assert found.line() == (
        "two trial steps: 4 s a step, about 2 h for the run; 1.0 GB of 80.0 GB (2.0 GB planned)"
    )

"""The reference's log-probabilities: made once, journaled, and taken over between units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from packed_models import CPU, model_of, packed_engine, rows_of

from fusechat.errors import TrainingError
from fusechat.files import read_json, read_jsonl
from fusechat.losses.dpo import Dpo
from fusechat.parts import Where
from fusechat.progress import Progress
from fusechat.stages.train_settings import DpoSettings
from fusechat.training import reference_pass
from fusechat.training.examples import Example
from fusechat.training.loop import Job
from fusechat.training.ranks import Ranks
from fusechat.training.reference import journal_of, read_reference
from fusechat.training.reference_pass import make_reference

ROWS = rows_of(20, 2)


class _Noting(Progress):
    def __init__(self) -> None:
        super().__init__("test")
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    model_of("llama").save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def _job(
    folder: Path, base: Path, rows: Sequence[Example] = ROWS, batch: int = 6, seed: int = 0
) -> Job:
    settings = DpoSettings(loss=Dpo(), global_batch_size=batch)
    where = Where(device="cpu")
    return Job(folder, base, None, rows, settings, {}, seed, where, _Noting())


class _Counted:
    """An engine that counts the rows it is asked for, and may be killed at one of the asks."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.engine = packed_engine(model_of("llama"), Dpo())
        self.asked: list[int] = []
        self.killed_at = killed_at

    def logps(self, examples: Sequence[Example]) -> torch.Tensor:
        if len(self.asked) == self.killed_at:
            raise KeyboardInterrupt
        self.asked.append(len(examples))
        return self.engine.logps(examples)

    def route(self) -> dict[str, Any]:
        return self.engine.route()

    def cuts(self) -> dict[str, Any]:
        return self.engine.cuts()


def _make(job: Job, engine: Any) -> torch.Tensor:
    return make_reference(job, engine, Ranks(CPU))


def test_values_are_those_of_the_engine_in_the_order_of_the_rows(
    tmp_path: Path, base: Path
) -> None:
    job = _job(tmp_path / "one", base)
    made = _make(job, _Counted())
    alone = torch.cat([_Counted().engine.logps([row]) for row in ROWS])
    torch.testing.assert_close(made, alone, rtol=1e-5, atol=1e-5)
    found = read_reference(job.folder / "reference", ROWS, CPU)
    assert found is not None
    assert found.equal(made)
    assert not journal_of(job.folder / "reference").exists()


def test_a_pass_that_was_killed_goes_on_and_gives_the_same_bits(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_pass, "_CHUNK", 6)
    whole = _make(_job(tmp_path / "whole" / "unit", base), _Counted())
    job = _job(tmp_path / "killed" / "unit", base)
    with pytest.raises(KeyboardInterrupt):
        _make(job, _Counted(killed_at=2))
    assert len(list(read_jsonl(journal_of(job.folder / "reference")))) == 1 + 12
    again = _Counted()
    made = _make(job, again)
    assert again.asked == [6, 2]
    assert made.equal(whole)


def test_a_torn_or_foreign_journal_is_mended_or_begun_again(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_pass, "_CHUNK", 6)
    job = _job(tmp_path / "unit", base)
    with pytest.raises(KeyboardInterrupt):
        _make(job, _Counted(killed_at=2))
    journal = journal_of(job.folder / "reference")
    with journal.open("a") as handle:
        handle.write('{"row": 3, "lo')
    other = _job(tmp_path / "unit", base, seed=7)
    engine = _Counted()
    _make(other, engine)
    assert sum(engine.asked) == 20


def test_another_unit_with_the_same_steps_takes_all_values_over(tmp_path: Path, base: Path) -> None:
    first = _make(_job(tmp_path / "dpo-1", base), _Counted())
    job, engine = _job(tmp_path / "dpo-2", base), _Counted()
    assert _make(job, engine).equal(first)
    assert engine.asked == []
    assert job.progress.notes == ["20 rows of the reference are those of dpo-1"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", ["batch", "seed", "rows", "sharing"])
def test_on_a_cpu_only_steps_of_the_very_same_rows_and_cuts_are_taken_over(
    change: str, tmp_path: Path, base: Path
) -> None:
    _make(_job(tmp_path / "dpo-1", base), _Counted())
    engine = _Counted()
    more = {"batch": {"batch": 5}, "seed": {"seed": 3}, "rows": {"rows": ROWS[1:]}}.get(change, {})
    engine.engine.share = change != "sharing"
    job = _job(tmp_path / "dpo-2", base, **more)  # type: ignore[arg-type]
    made = _make(job, engine)
    assert sum(engine.asked) == len(job.examples)
    alone = _job(tmp_path / "alone" / "dpo-2", base, **more)  # type: ignore[arg-type]
    unaided = _Counted()
    unaided.engine.share = engine.engine.share
    assert made.equal(_make(alone, unaided))


def test_elsewhere_rows_are_taken_over_in_any_order_and_the_new_ones_computed(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _make(_job(tmp_path / "dpo-1", base), _Counted())
    monkeypatch.setattr(reference_pass, "_bits_count", lambda ranks: False)
    new = replace(rows_of(1, 2, seed=5)[0], prompt_id="new")
    rows = [new, *reversed(ROWS)]
    engine = _Counted()
    made = _make(_job(tmp_path / "dpo-2", base, rows, batch=7, seed=4), engine)
    assert engine.asked == [1]
    assert made[1:].flip(0).equal(first)


@pytest.mark.parametrize("change", ["weights", "dtype"])
def test_values_of_another_model_or_precision_are_not_taken_over(
    change: str, tmp_path: Path, base: Path
) -> None:
    _make(_job(tmp_path / "dpo-1", base), _Counted())
    job, engine = _job(tmp_path / "dpo-2", base), _Counted()
    if change == "weights":
        model_of("llama", seed=1).save_pretrained(tmp_path / "other")
        job = replace(job, base=tmp_path / "other")
    else:
        job = replace(job, settings=job.settings.model_copy(update={"dtype": "bfloat16"}))
    _make(job, engine)
    assert sum(engine.asked) == 20


def test_a_row_without_a_finite_log_probability_stops_and_is_named(
    tmp_path: Path, base: Path
) -> None:
    engine = _Counted()
    with torch.no_grad():
        next(engine.engine.module.parameters()).fill_(float("nan"))
    job = _job(tmp_path / "unit", base, ROWS[:2])
    with pytest.raises(TrainingError, match=r"no finite log-probability to rows .*p0.*bad_batch"):
        _make(job, engine)
    assert read_json(tmp_path / "unit" / "bad_batch" / "batch.json")["what"] == "reference"
    assert not (tmp_path / "unit" / "reference").exists()

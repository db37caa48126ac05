"""Shards that another process holds, took over, or gave back."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusechat.executors import ledger
from fusechat.executors.leases import Lease, Leases
from fusechat.executors.rows import Batch, JobResult, RowJob
from fusechat.executors.shards import STREAM_CHUNK
from fusechat.parts import Where
from fusechat.records import Response
from fusechat.tables import shards
from ledger_lab import asked, do, job, named, table
from stub_parts import Counted, Inline


def test_a_worker_takes_what_is_free_and_leaves_what_another_holds(tmp_path: Path) -> None:
    rows = asked(6, 2)
    other = Leases(tmp_path / "journal")
    held = other.take(1)
    assert held is not None
    result = do(job(rows, tmp_path), closing=False)
    assert result.missing == 4
    assert [path.stem for path in shards(tmp_path / "data")] == ["00000", "00002"]
    other.close()
    assert do(job(rows, tmp_path)) == JobResult(rows=12)
    assert table(tmp_path) == named(rows)


def test_the_run_waits_for_a_held_shard_and_takes_it_when_it_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = asked(6, 2)
    other = Leases(tmp_path / "journal")
    held = other.take(1)
    assert held is not None
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            other.give_back(held)

    monkeypatch.setattr(ledger.time, "sleep", sleep)
    assert do(job(rows, tmp_path)) == JobResult(rows=12)
    assert len(waits) == 3
    assert table(tmp_path) == named(rows)
    other.close()


class Robbed(Inline):
    """After the first row, another process finishes the shard at hand, as after a long pause."""

    def __init__(self, one: RowJob) -> None:
        super().__init__(group=1)
        self.job, self.robbed = one, False

    def map(
        self, part: Any, batches: Iterable[Batch], where: Where
    ) -> Generator[Sequence[Any], None, None]:
        for group in super().map(part, batches, where):
            yield group
            if not self.robbed:
                self.robbed = True
                for lease in (self.job.folder / "journal").glob("*.lease.*"):
                    lease.unlink()
                do(self.job, Inline(), closing=False)


def test_a_holder_that_lost_its_shards_writes_nothing_more_to_them(tmp_path: Path) -> None:
    """The taker finishes all; the first holder wakes, finds its lease gone, and stands back."""
    rows = asked(6, 2)
    one = job(rows, tmp_path)
    assert do(one, Robbed(one)).missing == 0
    assert table(tmp_path) == named(rows)
    assert not list((tmp_path / "journal").iterdir())


@pytest.mark.parametrize("there", [True, False])
def test_a_holder_that_sleeps_between_its_last_look_and_the_rename_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """It would put a shard with gaps over a whole one. `there`: one with gaps was in place."""
    rows = asked(40)
    whole = RowJob(Counted(), rows, Response, tmp_path)
    stopped = replace(whole, stop=lambda group: "enough" if group else None)
    if there:
        assert do(stopped).missing == 40 - STREAM_CHUNK
    held, slept = Lease.held, []

    def sleepy(lease: Lease) -> bool:
        found = held(lease)
        if found and list(lease.path.parent.glob(".0*.parquet")) and not slept:
            slept.append(lease)
            lease.path.unlink()  # as by one who found it dead
            do(whole)
            assert len(table(tmp_path)) == 40
        return found

    monkeypatch.setattr(Lease, "held", sleepy)
    assert do(stopped).missing == 0
    assert slept
    assert table(tmp_path) == named(rows)

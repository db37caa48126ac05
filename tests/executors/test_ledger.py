"""Shards of a job: cut at prompts, opened as needed, stopped, left unfinished, shared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.errors import PartError
from fusechat.executors import ledger
from fusechat.executors.leases import Leases
from fusechat.executors.rows import Batch, JobResult
from fusechat.executors.shards import MOST_ROWS, STREAM_CHUNK, chunks, cuts
from fusechat.files import append_jsonl
from fusechat.parts import Where
from fusechat.records import Prompt, Response
from fusechat.tables import read_table, rows_in, shards
from fusechat.unit_folders import made_tables
from ledger_lab import Watched, asked, do, job, named, table
from stub_parts import Inline


@given(st.lists(st.integers(min_value=1, max_value=9), max_size=30), st.integers(1, 12))
def test_a_prompts_rows_are_in_one_shard_and_shards_are_as_small_as_that_allows(
    counts: list[int], shard_rows: int
) -> None:
    rows = asked(len(counts), counts)
    found = list(cuts(rows, shard_rows))
    assert [row for cut in found for row in cut.rows()] == rows
    assert [cut.number for cut in found] == list(range(len(found)))
    homes = {(row.prompt.id, cut.number) for cut in found for row in cut.rows()}
    assert len(homes) == len({row.prompt.id for row in rows})
    for cut in found:
        assert cut.size == len(cut.rows())
        last = len(cut.groups[-1]) if cut.groups else 0
        assert cut.size - last < shard_rows
    assert all(cut.size >= shard_rows for cut in found[:-1])


@given(st.lists(st.integers(min_value=1, max_value=150), max_size=12))
def test_a_streaming_part_is_handed_whole_prompts_of_up_to_64_rows(counts: list[int]) -> None:
    rows = asked(len(counts), counts)
    found = list(chunks(rows))
    assert [row for chunk in found for row in chunk] == rows
    assert all(len(chunk) <= MOST_ROWS for chunk in found)
    pieces = Counter(key for c in found for key, _ in groupby(c, lambda row: row.prompt.id))
    for number, count in enumerate(counts):
        least = -(-count // MOST_ROWS)
        assert pieces[Prompt.of(f"q{number}", domain="d").id] == least
    assert all(len(c) >= STREAM_CHUNK for c in found[:-1] if len(c) + max(counts) <= MOST_ROWS)


def test_only_shards_with_rows_under_way_are_open_and_all_batches_are_pulled_lazily(
    tmp_path: Path,
) -> None:
    rows = asked(60, 2)
    watched = Watched(tmp_path)
    assert do(job(rows, tmp_path), watched) == JobResult(rows=120)
    assert table(tmp_path) == named(rows)
    assert len(shards(tmp_path / "data")) == 30
    assert watched.most == 1
    assert max(watched.asked.values()) == 1


def test_a_stopped_job_keeps_what_is_there_and_a_later_one_asks_only_for_the_rest(
    tmp_path: Path,
) -> None:
    rows = asked(20, 3)
    told: list[int] = []

    def stop(group: Sequence[Any]) -> str | None:
        told.append(len(group))
        return "ten rows were enough" if sum(told) >= 10 else None

    result = do(job(rows, tmp_path / "u", stop=stop), Inline(group=3))
    assert told[0] == 0, "it is asked once before anything is handed out"
    assert (result.rows, result.stopped) == (60, "ten rows were enough")
    there = table(tmp_path / "u")
    assert result.missing == 60 - len(there) > 0
    assert there == [row for row in named(rows) if row in set(there)], "in input order"
    watched = Watched(tmp_path / "u")
    assert do(job(rows, tmp_path / "u"), watched) == JobResult(rows=60)
    assert watched.asked.total() == result.missing
    do(job(rows, tmp_path / "whole"))
    assert [path.read_bytes() for path in shards(tmp_path / "u" / "data")] == [
        path.read_bytes() for path in shards(tmp_path / "whole" / "data")
    ]


def test_a_limit_that_is_used_up_before_asks_for_nothing_and_keeps_adopted_and_journaled_rows(
    tmp_path: Path,
) -> None:
    rows = asked(8, 2)
    known = {rows[5].made_from: rows[5].response("adopted", "stop")}
    kept = rows[9].response("journaled", "stop")
    append_jsonl(tmp_path / "journal" / "00002.jsonl", kept.model_dump(mode="json"))
    watched = Watched(tmp_path)
    find: Callable[[Any], Any] = lambda names: {n: known[n] for n in names if n in known}  # noqa: E731
    result = do(job(rows, tmp_path, stop=lambda group: "over", adopted=find), watched)
    assert watched.asked.total() == 0
    assert (result.missing, result.stopped) == (14, "over")
    texts = [row.text for row in read_table(tmp_path / "data", Response)]
    assert texts == ["adopted", "journaled"]


def test_a_job_stopped_before_its_first_row_still_has_a_table(tmp_path: Path) -> None:
    assert do(job(asked(3), tmp_path, stop=lambda group: "over")).missing == 3
    assert [rows_in(path) for path in shards(tmp_path / "data")] == [0]
    assert do(job(asked(3), tmp_path)) == JobResult(rows=3)
    assert len(table(tmp_path)) == 3


class Half(Inline):
    """Answers every second row, and may."""

    partial = True

    def map(
        self, part: Any, batches: Iterable[Batch], where: Where
    ) -> Generator[Sequence[Any], None, None]:
        for group in Inline(group=1).map(part, batches, where):
            if group[0].index % 2 == 0:
                yield group


class Nothing(Watched):
    """Pulls all batches and answers none, as who writes them to a file."""

    partial = True

    def map(
        self, part: Any, batches: Iterable[Batch], where: Where
    ) -> Generator[Sequence[Any], None, None]:
        for _ in self._seen(batches):
            self.most = max(self.most, len(list((self.folder / "journal").glob("*.lease.*"))))
        yield from ()


def test_an_executor_that_answers_nothing_does_not_hold_all_shards_open(tmp_path: Path) -> None:
    rows = asked(20, 2)
    nothing = Nothing(tmp_path)
    assert do(job(rows, tmp_path), nothing) == JobResult(rows=40, missing=40)
    assert nothing.asked.total() == 40
    assert nothing.most == 1


def test_a_stopped_job_waits_for_what_another_holds_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = asked(6, 2)
    other = Leases(tmp_path / "journal")
    held = other.take(1)
    assert held is not None

    def sleep(seconds: float) -> None:
        assert (tmp_path / "journal" / "stopped").read_text() == "over", "workers are told"
        theirs = rows[4].response("theirs", "stop").model_dump(mode="json")
        append_jsonl(tmp_path / "journal" / "00001.jsonl", theirs)
        other.give_back(held)

    monkeypatch.setattr(ledger.time, "sleep", sleep)
    assert do(job(rows, tmp_path, stop=lambda group: "over")).missing == 11
    assert [row.text for row in read_table(tmp_path / "data", Response)] == ["theirs"]
    other.close()


def test_a_worker_takes_nothing_more_once_the_run_was_stopped(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "stopped").write_text("over")
    watched = Watched(tmp_path)
    assert do(job(asked(6), tmp_path), watched, closing=False).missing == 6
    assert not watched.asked


def test_an_executor_that_may_leave_rows_out_leaves_the_unit_unfinished_with_its_journals(
    tmp_path: Path,
) -> None:
    rows = asked(5, 2)
    assert do(job(rows, tmp_path), Half()) == JobResult(rows=10, missing=5)
    assert not shards(tmp_path / "data")
    watched = Watched(tmp_path)
    assert do(job(rows, tmp_path), watched) == JobResult(rows=10)
    assert watched.asked.total() == 5
    assert table(tmp_path) == named(rows)


class Twice(Inline):
    """Gives each row again after the next ones, as a worker that was thought dead might."""

    def map(
        self, part: Any, batches: Iterable[Batch], where: Where
    ) -> Generator[Sequence[Any], None, None]:
        late: list[Any] = []
        for group in super().map(part, batches, where):
            yield group
            late = [*late, *group]
            yield late[-9:]


def test_a_row_that_is_answered_again_is_passed_over_also_when_its_shard_is_closed(
    tmp_path: Path,
) -> None:
    rows = asked(12, 2)
    assert do(job(rows, tmp_path), Twice()) == JobResult(rows=24)
    assert table(tmp_path) == named(rows)


def test_rows_in_shards_of_another_size_are_not_taken_for_finished(tmp_path: Path) -> None:
    """A shard with fewer rows than it should have is opened again, and none of its rows asked."""
    rows = asked(6, 2)
    do(job(rows[:10], tmp_path))
    assert [rows_in(path) for path in shards(tmp_path / "data")] == [4, 4, 2]
    watched = Watched(tmp_path)
    do(job(rows, tmp_path), watched)
    assert table(tmp_path) == named(rows)
    assert watched.asked.total() == 2


def test_a_part_that_answers_what_nobody_asked_is_named(tmp_path: Path) -> None:
    class Foreign(Inline):
        def map(self, part: Any, batches: Iterable[Batch], where: Where) -> Any:
            for batch in batches:
                yield [batch.rows[0].model_copy(update={"made_from": "x"}).response("", "stop")]

    with pytest.raises(PartError, match="not asked: x"):
        do(job(asked(2), tmp_path), Foreign())
    assert not list((tmp_path / "journal").glob("*.lease.*")), "leases are given back"


def test_what_a_dead_worker_held_is_halved_and_only_a_row_that_kills_alone_is_given_up() -> None:
    """500 rows, one of which kills: nine deaths in company, then alone."""
    todo, deaths, lost = [Batch(list(range(500)))], 0, []
    while todo:
        batch = todo.pop()
        if 137 not in batch.rows:
            continue
        deaths += 1
        again = batch.retries(batch.rows)
        lost += [] if again else batch.rows
        todo += again
    assert lost == [137]
    assert deaths == 10


def test_a_shard_killed_between_its_draft_and_its_place_leaves_no_table_but_the_units_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def kill(draft: Path, path: Path) -> None:
        assert draft.exists()
        raise KilledError

    one = job(asked(3), tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "link_new", kill)
        with pytest.raises(KilledError):
            do(one)
    assert shards(tmp_path / "journal") == []  # its draft has a hidden name
    (tmp_path / "journal" / "00007.1.parquet").write_bytes(b"a draft of an earlier version")
    assert do(one) == JobResult(3)
    assert list(made_tables(tmp_path)) == ["data"]

"""Row-wise work: exactly once, in order, kept through failures, the same bytes after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusechat.digests import digest
from fusechat.errors import PartError
from fusechat.executors.local import LocalExecutor
from fusechat.executors.rows import RowJob, answers_of, run_job
from fusechat.files import append_jsonl
from fusechat.parts import Source, Where
from fusechat.progress import quiet
from fusechat.records import Prompt, Request, Response
from fusechat.sources.endpoint import Endpoint
from fusechat.sources.hf import Hf
from fusechat.sources.vllm import Vllm
from fusechat.tables import read_table, shards
from outside_parts import InBatches, Naughty, Shout
from ray_parts import Gone
from stub_parts import Hoard


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    made = LocalExecutor(processes=2)
    yield made
    made.close()


def requests(texts: list[str], part: Source, samples: int = 1, name: str = "s") -> list[Request]:
    rows = []
    for text in texts:
        prompt = Prompt.of(text, domain="d")
        for index in range(samples):
            draft = Request(
                prompt=prompt, source=name, index=index, seed=0, model="m", made_from=""
            )
            made_from = digest([part.digest(), part.sees(draft)])
            rows.append(draft.model_copy(update={"made_from": made_from}))
    return rows


def do(job: RowJob, executor: LocalExecutor) -> list[Response]:
    run_job(job, executor, Where(), quiet(), "rows")
    return list(read_table(job.folder / "data", Response))


def job_of(part: Source, rows: list[Request], folder: Path, **more: object) -> RowJob:
    return RowJob(part, rows, Response, folder, shard_rows=4, **more)  # type: ignore[arg-type]


def test_rows_come_back_in_input_order_over_several_shards(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    rows = requests([f"q{i}" for i in range(9)], Shout(), samples=2)
    found = do(job_of(Shout(), rows, tmp_path), executor)
    assert [(r.prompt_id, r.index) for r in found] == [(r.prompt.id, r.index) for r in rows]
    assert found[3].text == "Q1!"
    assert len(shards(tmp_path / "data")) == 5
    assert not list((tmp_path / "journal").iterdir())


def test_a_job_without_rows_still_has_a_table(tmp_path: Path, executor: LocalExecutor) -> None:
    assert do(job_of(Shout(), [], tmp_path), executor) == []
    assert shards(tmp_path / "data")


def test_batches_are_cut_from_the_whole_shard_also_on_resume(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    """A batch of 3 and one of 1 a shard: a resumed run that recut 2 left rows would say 2."""
    rows = requests([f"q{i}" for i in range(4)], InBatches())
    whole = do(job_of(InBatches(), rows, tmp_path / "a"), executor)
    assert sorted(r.text for r in whole) == ["one of 1", "one of 3", "one of 3", "one of 3"]
    journal = tmp_path / "b" / "journal" / "00000.jsonl"
    journal.parent.mkdir(parents=True)
    one_of_three = next(r for r in whole if r.text == "one of 3")
    journal.write_text(one_of_three.model_dump_json() + "\n" + '{"id": "torn')
    assert do(job_of(InBatches(), rows, tmp_path / "b"), executor) == whole


def test_a_finished_shard_is_never_computed_again(tmp_path: Path, executor: LocalExecutor) -> None:
    part = Naughty(how="raise", tally=str(tmp_path / "tally"))
    rows = requests([f"q{i}" for i in range(6)], part)
    do(job_of(part, rows, tmp_path / "u"), executor)
    do(job_of(part, rows, tmp_path / "u"), executor)
    assert len((tmp_path / "tally").read_text().splitlines()) == 6


def test_a_row_that_raises_is_kept_with_its_error_and_costs_no_other_row(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    part = Naughty(how="raise", tally=str(tmp_path / "tally"))
    rows = requests(["q0", "bad one", "q1", "q2", "q3", "q4"], part)
    found = do(job_of(part, rows, tmp_path / "u"), executor)
    assert [r.finish for r in found] == ["stop", "error", "stop", "stop", "stop", "stop"]
    assert found[1].error == "RuntimeError: no such luck"


def test_a_row_that_kills_its_worker_twice_is_kept_with_that_and_costs_no_other_row(
    tmp_path: Path,
) -> None:
    part = Naughty(how="die", tally=str(tmp_path / "tally"))
    rows = requests(["q0", "q1", "bad one", "q2", "q3"], part)
    executor = LocalExecutor(processes=2)
    try:
        found = do(job_of(part, rows, tmp_path / "u"), executor)
    finally:
        executor.close()
    assert [r.finish for r in found] == ["stop", "stop", "error", "stop", "stop"]
    assert "died twice" in str(found[2].error)


def test_a_part_may_have_hundreds_of_rows_in_flight_before_it_answers_one(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    rows = requests([f"q{i}" for i in range(100)], Hoard(), samples=3)
    job = RowJob(Hoard(ahead=250), rows, Response, tmp_path)
    run_job(job, executor, Where(processes=1), quiet(), "rows")
    found = list(read_table(tmp_path / "data", Response))
    assert {row.text for row in found} == {"with 250", "with 50"}
    assert [row.made_from for row in found] == [row.made_from for row in rows]


def test_of_many_rows_in_flight_over_a_death_the_one_that_kills_is_found_and_no_other_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 rows the eighth: 20, 10, 5, 3 and 1 are in flight when a worker dies."""
    monkeypatch.setenv("FUSECHAT_TEST_TALLY", str(tmp_path / "tally"))
    part = Hoard()
    rows = requests([f"q{i}" if i != 7 else "bad one" for i in range(20)], part)
    executor = LocalExecutor(processes=1)
    found = do(RowJob(part, rows, Response, tmp_path / "u"), executor)
    executor.close()
    assert [row.finish for row in found] == ["error" if i == 7 else "stop" for i in range(20)]
    assert "died twice" in str(found[7].error)
    received = (tmp_path / "tally").read_text().split()
    assert received.count(rows[7].made_from) == 5
    assert max(map(received.count, received)) == 5


def test_retry_errors_does_only_the_failed_rows_again(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    part = Naughty(how="raise", tally=str(tmp_path / "tally"))
    rows = requests(["q0", "bad one", "q1"], part)
    do(job_of(part, rows, tmp_path / "u"), executor)
    (tmp_path / "tally").unlink()
    do(job_of(part, rows, tmp_path / "u", retry_errors=True), executor)
    assert set((tmp_path / "tally").read_text().splitlines()) == {"bad one 0"}


@pytest.mark.parametrize(
    ("how", "message"), [("skip", "left 1 of 3 rows unanswered"), ("foreign", "not asked: nobody")]
)
def test_a_part_that_breaks_exactly_once_is_named(tmp_path: Path, how: str, message: str) -> None:
    part = Naughty(how=how, tally=str(tmp_path / "tally"))
    executor = LocalExecutor(processes=1)
    with pytest.raises(PartError, match=message):
        do(job_of(part, requests(["q0", "bad one", "q1"], part), tmp_path / "u"), executor)
    executor.close()


def test_adopted_rows_are_not_computed_and_take_the_askers_names(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    part = Naughty(how="raise", tally=str(tmp_path / "tally"))
    old = do(job_of(part, requests(["q0", "q1"], part, name="old"), tmp_path / "a"), executor)
    (tmp_path / "tally").unlink()
    known = {row.made_from: row for row in old}
    rows = requests(["q0", "q1", "q2"], part, name="new")
    job = job_of(
        part,
        rows,
        tmp_path / "b",
        adopted=lambda names: {name: known[name] for name in names if name in known},
    )
    found = do(job, executor)
    assert (tmp_path / "tally").read_text() == "q2 0\n"
    assert {row.source for row in found} == {"new"}
    assert len({row.id for row in found} | {row.id for row in old}) == 5


def test_the_same_content_is_computed_once_and_answers_every_asker(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    """Six rows of two contents: two computations."""
    part = Naughty(how="raise", tally=str(tmp_path / "tally"))
    rows = requests(["q0"] * 3 + ["q1"] * 3, part)
    found = do(job_of(part, rows, tmp_path / "u"), executor)
    assert len(found) == 6
    assert len((tmp_path / "tally").read_text().splitlines()) == 2


def test_what_a_killed_retry_mended_is_kept_by_a_run_without_retry(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    part = Naughty(how="raise", tally=str(tmp_path / "tally"))
    rows = requests(["q0", "bad one", "bad two"], part)
    do(job_of(part, rows, tmp_path / "u"), executor)
    mended = rows[1].response("fine after all", "stop")
    journal = tmp_path / "u" / "journal" / "00000.jsonl"
    append_jsonl(journal, mended.model_dump(mode="json"))  # and then the kill
    found = do(job_of(part, rows, tmp_path / "u"), executor)
    assert [row.finish for row in found] == ["stop", "stop", "error"]
    assert found[1] == mended
    assert not journal.exists()


def test_a_part_that_cannot_open_says_why(tmp_path: Path) -> None:
    from fusechat.sources.given import Given

    part = Given(path=str(tmp_path / "gone.jsonl"))
    executor = LocalExecutor(processes=1)
    with pytest.raises(PartError, match="gone"):
        do(job_of(part, requests(["q0"], Shout()), tmp_path / "u"), executor)
    executor.close()


def test_a_part_of_a_script_or_notebook_is_refused_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mine(Shout):
        """As if its class stood in the script that runs."""

    Mine.__module__, Mine.__qualname__ = "__main__", "Mine"
    monkeypatch.setattr("__main__.Mine", Mine, raising=False)
    executor = LocalExecutor(processes=1)
    with pytest.raises(PartError, match=r"'Mine'.*a module of its own"):
        do(job_of(Mine(), requests(["q0"], Mine()), tmp_path / "u"), executor)
    executor.close()


@pytest.mark.parametrize(
    ("where", "workers"),
    [
        (Where(device="cuda"), 1),
        (Where(device="cuda", processes=2), 2),
        (Where(device="cpu"), 4),
    ],
)
def test_a_model_on_an_accelerator_is_loaded_once_unless_the_cluster_file_says_more(
    where: Where, workers: int
) -> None:
    executor = LocalExecutor(processes=4)
    assert executor.workers_for(Hf(model="target"), where) == workers
    assert executor.workers_for(Shout(), where) == (where.processes or 4)


def test_a_source_that_starts_a_server_has_one_worker_whatever_the_cluster_file_says() -> None:
    executor = LocalExecutor(processes=4)
    part = Vllm(model="some/model")
    for where in (Where(), Where(processes=2), Where(device="cuda", processes=4)):
        assert executor.workers_for(part, where) == 1
    assert executor.workers_for(Endpoint(model="m"), Where(processes=2)) == 2


def test_a_source_whose_server_is_gone_stops_keeps_its_rows_and_goes_on_when_it_is_mended(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    mended = tmp_path / "mended"
    part = Gone(mended=str(mended))
    asked = [
        Request(prompt=Prompt.of(f"q{i}", domain="d"), source="s", index=0, seed=0, model="m",
                made_from=f"m{i:02}")
        for i in range(40)
    ]  # fmt: skip
    one = RowJob(part, asked, Response, tmp_path / "unit", shard_rows=16)
    with pytest.raises(PartError, match="the server is gone; start it again"):
        run_job(one, executor, Where(processes=1), quiet(), "rows")
    kept = list(answers_of(one.folder, Response))
    assert [row.text for row in kept] == [f"Q{i}" for i in range(part.good)]  # and no failed one
    mended.touch()
    assert run_job(one, executor, Where(processes=1), quiet(), "rows").missing == 0
    rows = list(read_table(one.folder / "data", Response))
    assert [row.text for row in rows] == [f"Q{i}" for i in range(40)]

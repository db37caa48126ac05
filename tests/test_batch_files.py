"""Batch files out and in: exactly the rows that are open, in any order, any number of times."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fusechat import batch_files
from fusechat.batch_files import BatchFileError, BatchReader, BatchWriter
from fusechat.digests import digest
from fusechat.executors.rows import JobResult, RowExecutor, RowJob, answers_of, run_job
from fusechat.parts import Source, Where
from fusechat.progress import quiet
from fusechat.records import Prompt, Request, Response
from outside_parts import Shout


def requests(prompts: int, samples: int, part: Source) -> list[Request]:
    rows = []
    for number in range(prompts):
        prompt = Prompt.of(f"question {number}\u2028äöü", domain="d")
        for index in range(samples):
            draft = Request(
                prompt=prompt, source="s", index=index, seed=100 + index, model="m", made_from=""
            )
            made_from = digest([part.digest(), part.sees(draft)])
            rows.append(draft.model_copy(update={"made_from": made_from}))
    return rows


def body(row: Request) -> dict[str, Any]:
    return {"model": row.model, "messages": row.prompt.chat(), "n": 1, "seed": row.seed}


def answered(row: Request, said: Mapping[str, Any]) -> Response:
    text = said["choices"][0]["message"]["content"]
    if text == "unusable":
        raise ValueError("nothing can be made of it")
    return row.response(text, "stop")


class Unit:
    """One unit of 7 prompts x 3 samples, in shards of about 6 rows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.part = folder, Shout()
        self.rows = requests(7, 3, self.part)

    def run(self, executor: RowExecutor) -> JobResult:
        job = RowJob(self.part, self.rows, Response, self.folder, shard_rows=6)
        return run_job(job, executor, Where(), quiet(), "responses", closing=False)

    def out(self, folder: Path, rows: int = 50_000) -> list[dict[str, Any]]:
        writer = BatchWriter(folder, body, rows)
        self.run(writer)
        texts = [file.read_text(encoding="utf-8") for file in writer.files]
        return [json.loads(line) for text in texts for line in text.splitlines()]

    def read(self, *files: Path) -> batch_files.Tally:
        reader = BatchReader(files, answered)
        try:
            self.run(reader)
        finally:
            reader.close()
        return reader.settle(row.made_from for row in self.kept())  # type: ignore[attr-defined]

    def kept(self) -> Iterator[Any]:
        return answers_of(self.folder, Response)

    def state(self) -> list[str]:
        return sorted(row.model_dump_json() for row in self.kept())


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(tmp_path / "unit")


def result(line: Mapping[str, Any], status: int = 200, text: str = "") -> dict[str, Any]:
    """What a provider gives back for a request line."""
    said = text or f"{line['body']['messages'][0]['content']} {line['body']['seed']}"
    fields: dict[str, Any] = {"choices": [{"message": {"content": said}}]}
    if status != 200:
        fields = {"error": {"message": f"trouble {status}"}}
    response = {"status_code": status, "request_id": "r", "body": fields}
    return {"id": "b", "custom_id": line["custom_id"], "response": response, "error": None}


def expired(line: Mapping[str, Any]) -> dict[str, Any]:
    error = {"code": "batch_expired", "message": "not in time"}
    return {"id": "b", "custom_id": line["custom_id"], "response": None, "error": error}


def file_of(path: Path, lines: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_each_open_row_is_one_line_with_its_own_seed(unit: Unit, tmp_path: Path) -> None:
    lines = unit.out(tmp_path / "out", rows=8)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"requests-{number:05d}.jsonl" for number in range(3)
    ]
    assert [line["custom_id"] for line in lines] == [row.made_from for row in unit.rows]
    for line, row in zip(lines, unit.rows, strict=True):
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        assert line["body"] == body(row)
    assert unit.state() == []


def test_answers_in_any_order_are_the_rows_of_the_unit(unit: Unit, tmp_path: Path) -> None:
    back = [result(line) for line in unit.out(tmp_path / "out")]
    random.Random(1).shuffle(back)
    one, two = file_of(tmp_path / "1", back[:9]), file_of(tmp_path / "2", back[9:])
    tally = unit.read(one, two)
    assert (tally.lines, tally.answered, tally.known, tally.unknown) == (21, 21, 0, 0)
    whole = list(unit.kept())
    assert [row.made_from for row in whole] == [row.made_from for row in unit.rows]
    assert [row.text for row in whole] == [
        f"{row.prompt.messages[0].content} {row.seed}" for row in unit.rows
    ]
    assert not list((unit.folder / "journal").glob("*.jsonl"))


def test_reading_twice_changes_nothing(unit: Unit, tmp_path: Path) -> None:
    back = [result(line) for line in unit.out(tmp_path / "out")]
    some = file_of(tmp_path / "some", back[:10])
    assert unit.read(some).answered == 10
    before = unit.state()
    again = unit.read(some, some)
    assert (again.answered, again.known, again.twice) == (0, 10, 10)
    assert unit.state() == before


def test_a_second_out_asks_only_for_the_rest(unit: Unit, tmp_path: Path) -> None:
    lines = unit.out(tmp_path / "out")
    half = lines[::2]
    unit.read(file_of(tmp_path / "half", [result(line) for line in half]))
    rest = unit.out(tmp_path / "rest")
    assert {line["custom_id"] for line in rest} == {line["custom_id"] for line in lines[1::2]}
    assert len(rest) == 10
    unit.read(file_of(tmp_path / "rest.jsonl", [result(line) for line in rest]))
    assert len(unit.state()) == 21
    assert unit.out(tmp_path / "none") == []


def test_refused_requests_are_rows_and_all_other_failures_stay_open(
    unit: Unit, tmp_path: Path
) -> None:
    lines = unit.out(tmp_path / "out")
    back = [
        result(lines[0], 400), expired(lines[1]), result(lines[2], 500), result(lines[3], 429),
        result(lines[4], 401), result(lines[5], text="unusable"), result(lines[6]),
        {"custom_id": lines[7]["custom_id"], "response": {"status_code": 200, "body": "torn"}},
    ]  # fmt: skip
    tally = unit.read(file_of(tmp_path / "back", back))
    assert (tally.answered, tally.refused) == (1, 1)
    assert tally.open == {
        "no response: not in time": 1, "500: trouble 500": 1, "429: trouble 429": 1,
        "401: trouble 401": 1, "nothing can be made of it": 1, "the response has no body": 1,
    }  # fmt: skip
    failed = [row for row in unit.kept() if row.finish == "error"]
    assert [row.error for row in failed] == ["refused by the provider (400): trouble 400"]
    asked_again = {line["custom_id"] for line in unit.out(tmp_path / "again")}
    done = {lines[0]["custom_id"], lines[6]["custom_id"]}
    assert asked_again == {line["custom_id"] for line in lines} - done


def test_an_answer_beats_a_failure_of_the_same_row_in_either_order(
    unit: Unit, tmp_path: Path
) -> None:
    lines = unit.out(tmp_path / "out")
    back = [expired(lines[0]), result(lines[0]), result(lines[1]), expired(lines[1])]
    tally = unit.read(file_of(tmp_path / "back", back))
    assert tally.answered == 2
    assert not tally.open


def test_lines_that_are_no_answers_of_this_unit_are_counted(unit: Unit, tmp_path: Path) -> None:
    lines = unit.out(tmp_path / "out")
    path = file_of(tmp_path / "back", [result(lines[0]), result({**lines[1], "custom_id": "x"})])
    with path.open("a", encoding="utf-8") as file:
        file.write("[1]\n\n" + json.dumps(result(lines[2]))[:50])
    tally = unit.read(path)
    assert (tally.answered, tally.unknown, tally.unreadable, tally.lines) == (1, 1, 2, 4)


def test_files_stay_below_the_limit_of_bytes(
    unit: Unit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_files, "MOST_BYTES", 600)
    lines = unit.out(tmp_path / "out")
    files = list((tmp_path / "out").iterdir())
    assert len(files) > 3
    assert all(file.stat().st_size <= 600 for file in files)
    assert len(lines) == 21
    monkeypatch.setattr(batch_files, "MOST_BYTES", 50)
    with pytest.raises(BatchFileError, match="a file takes 50"):
        unit.out(tmp_path / "small")


def test_a_folder_with_files_is_not_written_to(unit: Unit, tmp_path: Path) -> None:
    unit.out(tmp_path / "out")
    with pytest.raises(BatchFileError, match="not empty"):
        unit.out(tmp_path / "out")
    with pytest.raises(BatchFileError, match="cannot be read"):
        unit.read(tmp_path / "none")
    with pytest.raises(BatchFileError, match="--rows 0"):
        unit.out(tmp_path / "other", rows=0)

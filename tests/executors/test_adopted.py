"""Rows to adopt, looked up on disk: newest unit first, no failed ones, nothing left behind."""

from __future__ import annotations

from pathlib import Path

from fusechat.executors.adopted import Adopted
from fusechat.files import append_jsonl
from fusechat.records import Prompt, Request, Response, Score
from fusechat.tables import write_table


def response(name: str, text: str, failed: bool = False) -> Response:
    request = Request(
        prompt=Prompt.of("q", domain="d"), source="s", index=0, seed=0, model="m", made_from=name
    )
    return request.failure(text) if failed else request.response(text, "stop")


def test_rows_of_shards_and_journals_are_found_and_the_unit_added_first_counts(
    tmp_path: Path,
) -> None:
    newest = [response("a", "new a"), response("b", "broken", failed=True)]
    oldest = [response(name, f"old {name}") for name in "abc"]
    write_table(tmp_path / "new" / "data", newest, Response)
    write_table(tmp_path / "old" / "data", oldest, Response, shard_rows=2)
    journal = tmp_path / "old" / "journal" / "00000.2.jsonl"
    append_jsonl(journal, *(response(n, "in a journal").model_dump(mode="json") for n in "cd"))
    with journal.open("a") as handle:
        handle.write('{"finish": "stop", "made_from": "e", "torn')
    (tmp_path / "unit").mkdir()
    with Adopted(tmp_path / "unit") as known:
        known.add(tmp_path / "new", Response)
        known.add(tmp_path / "old", Response)
        assert not list((tmp_path / "unit").iterdir()), "the file has no name: a kill leaves none"
        found = known.find(["a", "b", "c", "d", "e", "f"])
        texts = {name: row.text for name, row in found.items() if isinstance(row, Response)}
        assert texts == {"a": "new a", "b": "old b", "c": "old c", "d": "in a journal"}
        assert known.count(["a", "f", "d", "a"]) == 3


def test_scores_are_found_and_failed_ones_left_out(tmp_path: Path) -> None:
    names = {"response_id": "r", "annotator": "x"}
    rows = [
        Score(status="ok", value=1.5, made_from="a", **names),
        Score(status="error", reason="crashed", made_from="b", **names),
        Score(status="unscorable", reason="cut", made_from="c", **names),
    ]
    write_table(tmp_path / "u" / "data", rows, Score)
    with Adopted(tmp_path) as known:
        known.add(tmp_path / "u", Score)
        assert known.find(["a", "b", "c"]) == {"a": rows[0], "c": rows[2]}


def test_thousands_of_names_are_looked_up_at_once_and_nothing_is_known_of_no_unit(
    tmp_path: Path,
) -> None:
    names = [f"n{number}" for number in range(3000)]
    write_table(tmp_path / "u" / "data", [response(name, name) for name in names], Response)
    with Adopted(tmp_path) as known:
        assert known.find(names) == {}
        assert known.count(names) == 0
        known.add(tmp_path / "u", Response)
        assert known.find(names).keys() == set(names)

"""Rows on disk: what is written is read back, whole or not at all, and always the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.files import append_jsonl, mend_torn_line, read_jsonl, write_atomic
from fusechat.records import Dropped, Pair, Prompt, Score
from fusechat.tables import read_dicts, read_table, shards, table_info, write_table


def prompts(count: int) -> list[Prompt]:
    return [Prompt.of(f"question {i}", domain="math", answer=str(i)) for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2500])
def test_a_table_gives_back_its_rows_in_order(tmp_path: Path, count: int) -> None:
    rows = prompts(count)
    info = write_table(tmp_path / "t", rows, Prompt)
    assert info.rows == count
    assert list(read_table(tmp_path / "t", Prompt)) == rows
    assert len(shards(tmp_path / "t")) == max(1, -(-count // 1000))


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    write_table(tmp_path / "a", prompts(30), Prompt)
    write_table(tmp_path / "b", prompts(30), Prompt)
    assert (tmp_path / "a/00000.parquet").read_bytes() == (
        tmp_path / "b/00000.parquet"
    ).read_bytes()
    assert table_info(tmp_path / "a") == table_info(tmp_path / "b")


def test_shards_of_a_longer_earlier_attempt_do_not_stay(tmp_path: Path) -> None:
    write_table(tmp_path / "t", prompts(30), Prompt, shard_rows=10)
    write_table(tmp_path / "t", prompts(5), Prompt, shard_rows=10)
    assert len(list(read_table(tmp_path / "t", Prompt))) == 5


def test_an_empty_table_still_says_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "t", [], Pair)
    assert list(read_dicts(tmp_path / "t", ["chosen_id", "margin"])) == []


@settings(deadline=None)  # writes files: a busy machine is no failure
@given(st.text(), st.one_of(st.none(), st.text()))
def test_any_text_survives_the_table(
    tmp_path_factory: pytest.TempPathFactory, a: str, b: str
) -> None:
    folder = tmp_path_factory.mktemp("t")
    row = Prompt.of(a, domain="d", answer=b, choices=(a, "x"))
    write_table(folder, [row], Prompt)
    assert list(read_table(folder, Prompt)) == [row]


def test_half_a_character_at_a_cut_is_replaced_and_not_fatal(tmp_path: Path) -> None:
    row = Dropped(prompt_id="p", origin="o", domain="d", stage="s", reason="cut \ud83d here")
    write_table(tmp_path / "t", [row], Dropped)
    assert next(read_table(tmp_path / "t", Dropped)).reason == "cut ? here"


def test_a_torn_last_line_is_left_out_and_cut_off(tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"
    append_jsonl(journal, {"a": 1}, {"a": 2})
    with journal.open("ab") as handle:
        handle.write(b'{"a": 3, "b": "kil')
    assert [row["a"] for row in read_jsonl(journal)] == [1, 2]
    mend_torn_line(journal)
    append_jsonl(journal, {"a": 4})
    assert [row["a"] for row in read_jsonl(journal)] == [1, 2, 4]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.json"
    write_atomic(path, b"old")
    monkeypatch.setattr("fusechat.files.os.fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_score_without_value_cannot_be_ok() -> None:
    with pytest.raises(ValueError, match="value if and only if"):
        Score(response_id="r", annotator="a", status="ok", made_from="m")
    with pytest.raises(ValueError, match="value if and only if"):
        Score(response_id="r", annotator="a", status="error", value=0.0, reason="x", made_from="m")
    with pytest.raises(ValueError, match="must say why"):
        Score(response_id="r", annotator="a", status="unscorable", made_from="m")

"""Rows held are counted from shards and journals alike, so that a killed run is billed once."""

from __future__ import annotations

import json
from pathlib import Path

from fusechat.forecast.held import tally_of
from fusechat.records import Response
from fusechat.tables import shard_path, write_shard


def response(index: int, tokens: int | None, text: str = "abcd") -> Response:
    return Response(
        id=str(index), prompt_id="p", source="s", index=index, text=text, finish="stop",
        tokens=tokens, prompt_tokens=3, model="m", made_from=str(index),
    )  # fmt: skip


def test_shards_journals_and_unknown_tokens_are_counted_and_a_torn_line_is_not(
    tmp_path: Path,
) -> None:
    write_shard(shard_path(tmp_path / "data", 0), [response(0, 10), response(1, 20)], Response)
    write_shard(shard_path(tmp_path / "data", 1), [response(2, None, "x" * 400)], Response)
    journal = tmp_path / "journal" / "00002.jsonl"
    journal.parent.mkdir()
    line = json.dumps(response(3, 40).model_dump()) + "\n"
    journal.write_text(line + line[: len(line) // 2])
    (journal.parent / "00002.again.jsonl").write_text(line)
    placed = json.dumps(response(0, 10).model_dump()) + "\n"  # a kill after the rename
    (journal.parent / "00000.jsonl").write_text(placed)
    found = tally_of(tmp_path)
    assert (found.rows, found.known_tokens, found.prompt_tokens) == (4, 70, 12)
    assert found.guessed_rows == 1
    assert found.response_tokens == 70 + 400 / 4


def test_a_unit_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert tally_of(tmp_path / "none").rows == 0

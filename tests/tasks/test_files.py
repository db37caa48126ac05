"""Prompts from files and hub sets: the usual layouts, mapped columns, unread rows kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.columns import Column, lookup, to_messages
from fusechat.parts import Task, UnreadableRow, load_part
from fusechat.records import Prompt


def task(tmp_path: Path, rows: list[Any], **settings: Any) -> Task:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    (tmp_path / "p.jsonl").write_text(text)
    part = load_part("tasks", {"use": "files", "path": "p.jsonl", **settings}, tmp_path)
    assert isinstance(part, Task)
    return part


def read(part: Task) -> list[Prompt | UnreadableRow]:
    return list(part.prompts("train"))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "hi"},
        {"question": "hi"},
        {"problem": "hi"},
        {"instruction": "hi", "input": ""},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]},
        {"prompt": [{"role": "user", "content": "hi"}]},
    ],
)
def test_the_usual_layouts_are_read_without_a_mapping(tmp_path: Path, row: dict[str, Any]) -> None:
    assert read(task(tmp_path, [row]))[0] == Prompt.of("hi", domain="")


def test_alpacas_input_follows_its_instruction(tmp_path: Path) -> None:
    (prompt,) = read(task(tmp_path, [{"instruction": "sum", "input": "1 2"}]))
    assert isinstance(prompt, Prompt)
    assert prompt.messages[0].content == "sum\n\n1 2"


def test_mapped_columns_fill_the_fields(tmp_path: Path) -> None:
    row = {
        "q": {"text": "hi"},
        "s": "be brief",
        "gold": "x = 1\n#### 7",
        "t": "assert f()",
        "o": ["a", "b"],
    }
    columns = {"prompt": "q.text", "system": "s", "answer": {"column": "gold", "after": "####"},
               "tests": "t", "choices": "o"}  # fmt: skip
    (prompt,) = read(task(tmp_path, [row], columns=columns))
    assert isinstance(prompt, Prompt)
    assert [m.role for m in prompt.messages] == ["system", "user"]
    assert (prompt.answer, prompt.tests, prompt.choices) == ("7", "assert f()", ("a", "b"))


def test_a_row_that_is_no_prompt_is_kept_with_its_place_and_reason(tmp_path: Path) -> None:
    rows = ['{"prompt": "torn', {"prompt": " "}, {"other": 1}, {"prompt": "fine"}]
    found = read(task(tmp_path, rows))
    assert found[:3] == [
        UnreadableRow("p.jsonl:1", "not JSON"),
        UnreadableRow("p.jsonl:2", "empty prompt"),
        UnreadableRow("p.jsonl:3", "no prompt in the row"),
    ]
    assert isinstance(found[3], Prompt)


def test_parquet_and_json_files_give_the_same_prompts(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "answer": str(i)} for i in range(5)]
    wanted = read(task(tmp_path, rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    (tmp_path / "p.json").write_text(json.dumps(rows))
    for name in ("p.parquet", "p.json"):
        part = load_part("tasks", {"use": "files", "path": name}, tmp_path)
        assert list(part.prompts("train")) == wanted  # type: ignore[attr-defined]


def test_a_missing_file_and_a_missing_column_are_faults(tmp_path: Path) -> None:
    part = load_part("tasks", {"use": "files", "path": "gone.jsonl"}, tmp_path)
    assert next(part.faults())[0] == "path"
    part = task(tmp_path, [{"prompt": "x", "gold": "1"}], columns={"answer": "gould"})
    assert list(part.faults()) == [
        (
            "columns.answer",
            "p.jsonl has no column 'gould'. Did you mean 'gold'? It has: prompt, gold.",
        )
    ]


def test_a_hub_set_in_a_local_folder_is_read_by_the_hubs_own_reader(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    rows = [{"problem": "1+1?", "expected_answer": "2"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "set" / "train-00000.parquet")
    part = load_part("tasks", {"use": "hub", "path": "set"}, tmp_path)
    (prompt,) = list(part.prompts("train"))  # type: ignore[attr-defined]
    assert (prompt.messages[0].content, prompt.answer) == ("1+1?", "2")


def test_a_hub_id_without_a_commit_is_a_fault(tmp_path: Path) -> None:
    part = load_part("tasks", {"use": "hub", "path": "openbmb/UltraFeedback"}, tmp_path)
    assert [key for key, _ in part.faults()] == ["revision"]
    pinned = {"use": "hub", "path": "openbmb/UltraFeedback", "revision": "0" * 40}
    assert not list(load_part("tasks", pinned, tmp_path).faults())


def test_lookup_follows_objects_and_lists() -> None:
    row = {"a": {"b": 1}, "c": [{"d": 2}, {"d": 3}], "x.y": 4}
    assert lookup(row, "a.b") == 1
    assert lookup(row, "c[].d") == [2, 3]
    assert lookup(row, "x.y") == 4
    assert lookup(row, "a.z") is None
    assert lookup(row, "c.d") is None


def test_after_takes_the_text_behind_the_last_mark_and_misses_without_one() -> None:
    column = Column(column="s", after="A:")
    assert column.of({"s": "A: 1\nA: 2"}) == "2"
    assert column.of({"s": "none"}) is None


@given(st.text(min_size=1).filter(str.strip))
def test_the_same_text_is_the_same_prompt_and_another_text_another(text: str) -> None:
    assert Prompt.of(text, domain="a").id == Prompt.of(text, domain="b").id
    assert Prompt.of(text, domain="a").id != Prompt.of(text + "x", domain="a").id


def test_a_conversation_must_end_with_the_user() -> None:
    with pytest.raises(ValueError, match="does not end with a user turn"):
        to_messages([{"role": "system", "content": "x"}])
    with pytest.raises(ValueError, match="role other than"):
        to_messages([{"role": "tool", "content": "x"}, {"role": "user", "content": "y"}])

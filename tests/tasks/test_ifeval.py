"""IFEval's file as prompts, and its four numbers from what was followed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusechat.metrics.scoring import Items
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks import ifeval
from fusechat.tasks.ifeval import IfEval

ROW = {
    "key": 7, "prompt": "Say it.", "instruction_id_list": ["en:punctuation:no_comma"],
    "kwargs": [{"num_words": None}],
}  # fmt: skip


def made(folder: Path, *rows: Any) -> list[Prompt | UnreadableRow]:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "ifeval_input_data.jsonl").write_text(text, encoding="utf-8")
    return list(IfEval(data_dir=str(folder)).prompts("test"))


def test_a_row_is_a_prompt_with_its_instructions(tmp_path: Path) -> None:
    first, second = made(tmp_path, ROW, {**ROW, "key": 8})
    assert isinstance(first, Prompt)
    assert isinstance(second, Prompt)
    assert (first.item, first.domain, first.licence) == ("7", "all", "Apache-2.0")
    assert json.loads(first.checker or "") == {
        "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}],
    }  # fmt: skip
    assert first.id != second.id


@pytest.mark.parametrize(
    "row",
    [
        {**ROW, "prompt": " "}, {**ROW, "kwargs": []}, {**ROW, "kwargs": [1]},
        {**ROW, "instruction_id_list": None}, [1],
    ],
)  # fmt: skip
def test_a_row_that_is_no_item_is_told_with_its_place(tmp_path: Path, row: Any) -> None:
    found = made(tmp_path, ROW, row)
    assert isinstance(found[0], Prompt)
    assert isinstance(found[1], UnreadableRow)


def test_the_published_file_has_541_items_of_a_known_hash(shared_data: Path) -> None:
    task = IfEval(data_dir=str(shared_data))
    found = list(task.prompts("test"))
    assert len(found) == task.expected() == 541
    assert all(isinstance(row, Prompt) for row in found)
    assert len({row.id for row in found if isinstance(row, Prompt)}) == 541
    assert not any("none of the known files" in note for note in task.notes())


def test_without_its_file_the_row_is_missing_and_says_where_to_get_it(tmp_path: Path) -> None:
    assert "google/IFEval" in (IfEval(data_dir=str(tmp_path)).missing() or "")


def test_without_langdetect_the_row_says_which_items_are_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, ROW)
    monkeypatch.setattr(ifeval, "find_spec", lambda name: None)
    assert "fusechat[ifeval]" in IfEval(data_dir=str(tmp_path)).notes()[-1]


def test_the_row_is_prompts_and_beside_it_are_instructions_and_the_loose_reading() -> None:
    two = ["punctuation:no_comma", "keywords:existence"]
    details: list[dict[str, Any]] = [
        {"instructions": two, "strict": [True, True], "loose": [True, True]},
        {"instructions": two, "strict": [True, False], "loose": [True, True]},
        {"instructions": two[:1]},  # was cut, and counts as wrong
        {"instructions": two, "message": "an argument is missing"},  # says nothing
    ]
    ones = np.ones(4)
    items = Items(
        names=("a", "b", "c", "d"), values=np.array([1, 0, 0, np.nan]), groups=("all",) * 4,
        characters=ones, tokens=ones, details=tuple(details),
    )  # fmt: skip
    task = IfEval()
    assert task.score(items) == pytest.approx(100 / 3)
    assert task.extras(items) == {
        "instruction_strict": 60.0,  # 3 of 5
        "prompt_loose": pytest.approx(66.6667),
        "instruction_loose": 80.0,  # 4 of 5
        "by_instruction": {"keywords": 50.0, "punctuation": pytest.approx(66.6667)},
    }
    assert task.extras(items.take([3])) == {}

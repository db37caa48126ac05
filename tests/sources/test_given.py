"""Stored responses: nested and long layouts, joined to prompts by their messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusechat.parts import Where, load_part
from fusechat.records import Prompt, Request, Response
from fusechat.sources.given import Given


def stored(tmp_path: Path, rows: list[dict[str, Any]], **settings: Any) -> Given:
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    part = load_part("sources", {"use": "given", "path": "pool.jsonl", **settings}, tmp_path)
    assert isinstance(part, Given)
    return part


def answers(part: Given, question: str) -> list[Response]:
    prompt = Prompt.of(question, domain="d")
    requests = [
        Request(prompt=prompt, source="s", index=i, seed=1, model="m", made_from=f"m{i}")
        for i in range(part.available(prompt, None))
    ]
    with part.open(Where()) as work:
        return list(work(iter(requests)))


def texts(part: Given, question: str) -> list[str]:
    return [response.text for response in answers(part, question)]


def test_one_column_a_sample(tmp_path: Path) -> None:
    rows = [{"question": "q", "small": {"solution": "a"}, "big": {"solution": "b"}}]
    part = stored(tmp_path, rows, responses=["small.solution", "big.solution"])
    assert texts(part, "q") == ["a", "b"]


def test_a_list_of_texts_and_a_list_of_objects(tmp_path: Path) -> None:
    assert texts(
        stored(tmp_path, [{"prompt": "q", "outs": ["a", "b"]}], responses="outs"), "q"
    ) == ["a", "b"]
    rows = [{"instruction": "q", "completions": [{"response": "a"}, {"response": "b"}]}]
    assert texts(stored(tmp_path, rows, responses="completions[].response"), "q") == ["a", "b"]


def test_several_rows_of_one_prompt_are_its_samples(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "response": "a"},
        {"prompt": "p", "response": "x"},
        {"prompt": "q", "response": "b"},
    ]
    assert texts(stored(tmp_path, rows), "q") == ["a", "b"]


def test_a_prompt_that_is_not_stored_has_no_samples(tmp_path: Path) -> None:
    part = stored(tmp_path, [{"prompt": "q", "response": "a"}])
    assert part.available(Prompt.of("other", domain="d"), 5) == 0
    assert part.available(Prompt.of("q", domain="d"), 5) == 1


def test_finish_is_unknown_unless_a_column_says_and_a_cut_one_is_not_whole(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "outs": ["a", "b"], "ends": ["stop", "length"]}]
    assert [r.finish for r in answers(stored(tmp_path, rows, responses="outs"), "q")] == [
        "unknown"
    ] * 2
    found = answers(stored(tmp_path, rows, responses="outs", finish="ends"), "q")
    assert [(r.finish, r.whole) for r in found] == [("stop", True), ("length", False)]


def test_parquet_with_messages_is_joined_by_content(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "q"},
                          {"role": "assistant", "content": "old"}],
             "response": "a"}]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    part = load_part("sources", {"use": "given", "path": "pool.parquet"}, tmp_path)
    assert isinstance(part, Given)
    assert texts(part, "q") == ["a"]


def test_the_key_is_the_files_content_and_not_its_place(tmp_path: Path) -> None:
    first = stored(tmp_path, [{"prompt": "q", "response": "a"}])
    (tmp_path / "else.jsonl").write_bytes((tmp_path / "pool.jsonl").read_bytes())
    moved = load_part("sources", {"use": "given", "path": "else.jsonl"}, tmp_path)
    assert moved.key() == first.key()
    key = first.key()
    other = stored(tmp_path, [{"prompt": "q", "response": "changed"}])
    assert other.key() != key


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"responses": "respnse"}, "has no column 'respnse'. Did you mean 'response'?"),
        ({"prompt": "question"}, "has no column 'question'."),
        ({"path": "gone.jsonl"}, "there is nothing at"),
    ],
)
def test_what_the_file_lacks_is_a_fault_with_the_nearest_name(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    stored(tmp_path, [{"prompt": "q", "response": "a"}])
    part = load_part("sources", {"use": "given", "path": "pool.jsonl", **settings}, tmp_path)
    assert any(message in text for _, text in part.faults())


def test_rows_without_prompt_or_response_are_kept_with_their_place_and_reason(
    tmp_path: Path,
) -> None:
    rows = [{"prompt": "q", "response": "a"}, {"prompt": "q"}, {"response": "b"}]
    part = stored(tmp_path, rows)
    assert [(row.place, row.reason) for row in part.unread()] == [
        ("pool.jsonl:2", "no response in the row"),
        ("pool.jsonl:3", "prompt is neither text nor a list of messages"),
    ]


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    assert texts(stored(tmp_path, [{"prompt": "q", "response": "a"}]), "q") == ["a"]
    assert texts(stored(tmp_path, [{"prompt": "q", "response": "bb"}]), "q") == ["bb"]


def test_a_sets_own_solutions_are_read_from_a_folder_of_it_several_a_problem(
    tmp_path: Path,
) -> None:
    """OpenMathInstruct-2's layout: one row a solution, splits beside each other."""
    pytest.importorskip("datasets")
    (tmp_path / "set" / "data").mkdir(parents=True)
    problems = [("1+1?", "two"), ("2+2?", "four"), ("1+1?", "2"), ("1+1?", None)]
    rows = [{"problem": p, "generated_solution": s, "expected_answer": "x"} for p, s in problems]
    for split, part_of in (("train_1M", rows), ("train", rows[:1])):
        name = f"{split}-00000-of-00001.parquet"
        pq.write_table(pa.Table.from_pylist(part_of), tmp_path / "set" / "data" / name)
    settings = {"prompt": "problem", "responses": "generated_solution", "model": "llama-405b"}
    part = load_part(
        "sources", {"use": "given", "path": "set", "split": "train_1M", **settings}, tmp_path
    )
    assert isinstance(part, Given)
    assert not list(part.faults())
    assert texts(part, "1+1?") == ["two", "2"]
    assert texts(part, "2+2?") == ["four"]
    assert part.available(Prompt.of("1+1?", domain="math"), 1) == 1
    assert [row.reason for row in part.unread()] == ["no response in the row"]
    assert part.unread()[0].place.endswith("set:train_1M[3]")


def test_a_hub_set_needs_its_commit_and_a_missing_file_says_so(tmp_path: Path) -> None:
    def faults(**settings: str) -> list[tuple[str, str]]:
        return list(load_part("sources", {"use": "given", **settings}, tmp_path).faults())

    ((key, told),) = faults(path="nvidia/OpenMathInstruct-2")
    assert key == "path"
    assert "there is nothing at nvidia/OpenMathInstruct-2" in told
    assert "revision" in told
    pytest.importorskip("datasets")
    assert not faults(path="nvidia/OpenMathInstruct-2", revision="0" * 40)
    assert [key for key, _ in faults(path="a/b/c", revision="0" * 40)] == ["path"]

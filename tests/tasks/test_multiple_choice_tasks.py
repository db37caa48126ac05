"""The multiple-choice benchmarks on made files of their publishers' layouts, and on real ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusechat.metrics.scoring import Items
from fusechat.parts import UnreadableRow, load_part
from fusechat.records import Prompt
from fusechat.tasks._benchmark import Benchmark
from fusechat.tasks._mmlu_redux import SUBJECTS

NAMES = ("mmlu_pro", "mmlu_redux", "mmlu", "gpqa_diamond")


def benchmark(name: str, folder: Path, **settings: Any) -> Benchmark:
    part = load_part("tasks", {"use": name, "data_dir": str(folder), **settings})
    assert isinstance(part, Benchmark)
    return part


def parts(task: Benchmark) -> tuple[list[Prompt], list[UnreadableRow]]:
    rows = list(task.prompts("test"))
    prompts = [row for row in rows if isinstance(row, Prompt)]
    return prompts, [row for row in rows if isinstance(row, UnreadableRow)]


def parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


PRO = {
    "question_id": 70, "question": "Which?", "options": ["x", "y", "N/A", "z"], "answer": "C",
    "answer_index": 2, "category": "law", "src": "made",
}  # fmt: skip


def test_the_prompt_is_fuse_evals_zero_shot_chat_prompt(tmp_path: Path) -> None:
    parquet(tmp_path / "mmlu_pro_test.parquet", [PRO])
    (prompt,), _ = parts(benchmark("mmlu_pro", tmp_path))
    (message,) = prompt.messages
    assert message.role == "user"
    head, steps = message.content.split("- For simple problems:", 1)
    assert head == (
        "Please read the following multiple-choice questions and provide the most likely correct "
        "answer based on the options given.\nQuestion:\nWhich?\nOptions:\nA. x\nB. y\nC. z\n"
    )
    assert steps.endswith("choice.\n\nAnswer: Let's think step by step.")
    assert "The best answer is [the_answer_letter].\n" in steps
    assert (prompt.answer, prompt.choices, prompt.domain, prompt.item, prompt.licence) == (
        "C", ("x", "y", "z"), "law", "70", "MIT",
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_decoding_is_greedy_and_stops_at_another_question(name: str, tmp_path: Path) -> None:
    task = benchmark(name, tmp_path)
    assert task.decoding() == {"temperature": 0.0, "max_new_tokens": 2048, "stop": ["Question:"]}
    assert task.graders()["paper"]["grade_cut"] is True
    for settings in task.graders().values():
        load_part("annotators", settings)


def test_only_qwen_has_an_empty_system_message_and_says_so(tmp_path: Path) -> None:
    parquet(tmp_path / "mmlu_pro_test.parquet", [PRO])
    for family in ("llama", "gemma", "qwen"):
        task = benchmark("mmlu_pro", tmp_path, family=family)
        (prompt,), _ = parts(task)
        roles = [(m.role, bool(m.content)) for m in prompt.messages]
        assert roles == ([("system", False)] if family == "qwen" else []) + [("user", True)]
        assert any("default system prompt" in n for n in task.notes()) == (family == "qwen")


def test_rows_that_are_no_questions_are_kept_with_their_reasons(tmp_path: Path) -> None:
    rows = [
        PRO | {"question": " "}, PRO | {"answer": "D"}, PRO | {"options": ["x"]},
        PRO | {"options": [str(n) for n in range(11)]},
    ]  # fmt: skip
    parquet(tmp_path / "mmlu_pro_test.parquet", rows)
    prompts, unread = parts(benchmark("mmlu_pro", tmp_path))
    assert prompts == []
    assert [row.reason for row in unread] == [
        "no question in the row", "the gold answer is none of the options",
        "1 options; there are 2 to 10", "11 options; there are 2 to 10",
    ]  # fmt: skip


def test_mmlu_names_items_by_subject_and_keeps_doubled_questions(tmp_path: Path) -> None:
    row = {"question": "Which?", "subject": "law", "choices": list("wxyz"), "answer": 1}
    parquet(tmp_path / "mc" / "mmlu_test.parquet", [row, row, row | {"subject": "maths"}])
    prompts, _ = parts(benchmark("mmlu", tmp_path))
    assert [(p.item, p.answer, p.domain) for p in prompts] == [
        ("law/0", "B", "law"), ("law/1", "B", "law"), ("maths/0", "B", "maths"),
    ]  # fmt: skip
    assert len({p.id for p in prompts}) == 3


def test_the_score_is_over_items_and_subjects_are_told_beside_it(tmp_path: Path) -> None:
    """Two subjects of 3 and 1 items: 2/3 and 0 right, 50% of items, not 33.3% of subjects."""
    nan = np.full(4, np.nan)
    values = np.array([1.0, 1.0, 0.0, 0.0])
    items = Items(tuple("abcd"), values, ("x", "x", "x", "y"), nan, nan, ({},) * 4)
    task = benchmark("mmlu", tmp_path)
    assert task.score(items) == 50.0
    assert task.extras(items) == {"by_subject": {"x": 66.67, "y": 0.0}}


def redux_row(n: int, **fields: Any) -> dict[str, Any]:
    return {
        "question": f"Which is {n}?", "choices": ["p", "q", "r", "s"], "answer": 0,
        "error_type": "ok", "source": None, "correct_answer": None, "potential_reason": None,
    } | fields  # fmt: skip


def write_arrow(path: Path, rows: list[dict[str, Any]]) -> None:
    """As `datasets.Dataset.save_to_disk` writes a shard: an Arrow stream."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def redux(folder: Path) -> Path:
    """Two subjects in the published layout, one as Arrow and one as Parquet."""
    home = folder / "mmlu-redux-2.0"
    wrong = [
        redux_row(1, error_type="wrong_groundtruth", correct_answer="2"),
        redux_row(2, error_type="wrong_groundtruth", correct_answer="D"),
        redux_row(3, error_type="no_correct_answer", correct_answer="t"),
        redux_row(4, error_type="multiple_correct_answers", correct_answer="A and C"),
        redux_row(5, error_type="bad_question_clarity"),
        redux_row(6, error_type="wrong_groundtruth", correct_answer="neither"),
        redux_row(7, error_type="wrong_groundtruth", correct_answer="s"),
    ]
    write_arrow(home / "anatomy" / "data-00000-of-00001.arrow", [redux_row(0), *wrong])
    (home / "anatomy" / "dataset_info.json").write_text("{}")
    (home / "anatomy" / "state.json").write_text("{}")
    parquet(home / "virology" / "test" / "0000.parquet", [redux_row(8), redux_row(9)])
    return home


def test_redux_leaves_out_what_its_annotators_found_wrong(tmp_path: Path) -> None:
    redux(tmp_path)
    task = benchmark("mmlu_redux", tmp_path)
    prompts, unread = parts(task)
    assert [p.item for p in prompts] == ["anatomy/0", "virology/0", "virology/1"]
    assert [p.domain for p in prompts] == ["anatomy", "virology", "virology"]
    assert [row.reason for row in unread] == [
        "error_type wrong_groundtruth", "error_type wrong_groundtruth",
        "error_type no_correct_answer", "error_type multiple_correct_answers",
        "error_type bad_question_clarity", "error_type wrong_groundtruth",
        "error_type wrong_groundtruth",
    ]  # fmt: skip
    assert task.expected() == 5330
    assert task.notes() == []


def test_redux_takes_what_its_annotators_wrote_where_that_is_asked(tmp_path: Path) -> None:
    redux(tmp_path)
    task = benchmark("mmlu_redux", tmp_path, errors="corrected")
    prompts, unread = parts(task)
    found = {p.item: (p.answer, p.choices) for p in prompts if p.domain == "anatomy"}
    plain = ("p", "q", "r", "s")
    assert found == {
        "anatomy/0": ("A", plain), "anatomy/1": ("C", plain), "anatomy/2": ("D", plain),
        "anatomy/3": ("A", ("t", "q", "r", "s")), "anatomy/4": ("A,C", plain),
        "anatomy/7": ("D", plain),
    }  # fmt: skip
    assert [row.reason for row in unread] == [
        "error_type bad_question_clarity, not corrected",
        "error_type wrong_groundtruth, not corrected",
    ]
    assert any("corrected" in note for note in task.notes())


def test_redux_with_errors_kept_has_mmlus_labels(tmp_path: Path) -> None:
    redux(tmp_path)
    prompts, unread = parts(benchmark("mmlu_redux", tmp_path, errors="kept"))
    assert [p.answer for p in prompts] == ["A"] * 10
    assert unread == []


def test_a_whole_redux_expects_what_remains_of_it(tmp_path: Path) -> None:
    for subject in SUBJECTS:
        rows = [redux_row(n, error_type="ok" if n else "expert") for n in range(100)]
        parquet(tmp_path / "mmlu-redux-2.0" / subject / "0000.parquet", rows)
    assert benchmark("mmlu_redux", tmp_path).expected() == 57 * 99
    assert benchmark("mmlu_redux", tmp_path).lacks() == []
    assert benchmark("mmlu_redux", tmp_path, errors="kept").expected() == 5700


def test_the_sample_of_redux_says_that_it_is_one(tmp_path: Path) -> None:
    row = {"id": 101, "question": "Which?", "choices": dict(zip("ABCD", "wxyz", strict=True))}
    told = {"name": "m", "dev": [row | {"answer": "B"}], "test": [row | {"answer": "E"}]}
    (tmp_path / "mmlu_redux_2000.json").write_text(json.dumps(told))
    task = benchmark("mmlu_redux", tmp_path)
    (prompt,), (unread,) = parts(task)
    assert (prompt.item, prompt.answer, prompt.choices) == ("anatomy/1", "B", tuple("wxyz"))
    assert unread.place == "mmlu_redux_2000.json:test[0]"
    assert task.expected() == 5330
    assert task.lacks() == ["The data are a part: 2 of 5,700 questions."]
    assert "does not say" in " ".join(task.notes())


GPQA = {
    "Question": "Which particle?", "Correct Answer": "one\n", "Incorrect Answer 1": "two",
    "Incorrect Answer 2": "three", "Incorrect Answer 3": "four", "Record ID": "rec1",
    "High-level domain": "Physics", "Canary String": "canary",
}  # fmt: skip


def test_gpqa_is_read_from_the_publishers_csv_in_an_order_of_each_item(tmp_path: Path) -> None:
    rows = [GPQA | {"Question": f"Which particle {n}?", "Record ID": f"r{n}"} for n in range(40)]
    path = tmp_path / "gpqa_diamond.csv"
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(GPQA))
        writer.writeheader()
        writer.writerows(rows)
    prompts, _ = parts(benchmark("gpqa_diamond", tmp_path))
    assert [p.item for p in prompts] == [f"r{n}" for n in range(40)]
    for prompt in prompts:
        assert sorted(prompt.choices or ()) == ["four", "one", "three", "two"]
        assert (prompt.choices or ())["ABCD".index(prompt.answer or "")] == "one"
    assert {p.answer for p in prompts} == set("ABCD")
    assert all("canary" not in p.messages[0].content for p in prompts)

    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(GPQA))
        writer.writeheader()
        writer.writerows(rows[::-1])
    again, _ = parts(benchmark("gpqa_diamond", tmp_path))
    assert {p.id for p in again} == {p.id for p in prompts}
    other, _ = parts(benchmark("gpqa_diamond", tmp_path, shuffle_seed=1))
    assert {p.id for p in other} != {p.id for p in prompts}


@pytest.mark.parametrize("answer", [2, "C"])
def test_gpqa_with_its_options_in_order_keeps_that_order(tmp_path: Path, answer: Any) -> None:
    row = {"Question": "Which?", "options": list("wxyz"), "answer": answer, "Canary String": "c"}
    parquet(tmp_path / "gpqa_formatted" / "diamond" / "train-00000-of-00001.parquet", [row])
    (prompt,), _ = parts(benchmark("gpqa_diamond", tmp_path))
    assert (prompt.choices, prompt.answer, prompt.domain) == (tuple("wxyz"), "C", "all")
    assert prompt.item
    assert "Which" not in prompt.item


def test_redux_skips_only_where_there_is_not_even_a_sample(tmp_path: Path) -> None:
    task = benchmark("mmlu_redux", tmp_path)
    assert "edinburgh-dawg/mmlu-redux-2.0" in (task.missing() or "")
    (tmp_path / "mmlu_redux_2000.json").write_text('{"dev": [], "test": []}')
    assert task.missing() is None
    assert set(task.found()) == {"sample"}
    redux(tmp_path)
    assert set(task.found()) == {"items"}


def test_gpqa_is_private_and_only_read_from_the_users_folder(tmp_path: Path) -> None:
    task = benchmark("gpqa_diamond", tmp_path)
    assert getattr(task, "private", False) is True
    assert all(file.hub is None and file.package is None for file in task.data)
    assert "never fetched" in (task.missing() or "")


@pytest.mark.parametrize(
    ("name", "items", "subjects"), [("mmlu_pro", 12_032, 14), ("mmlu", 14_042, 57)]
)
def test_the_real_files_give_every_item(
    shared_data: Path, name: str, items: int, subjects: int
) -> None:
    task = benchmark(name, shared_data)
    prompts, unread = parts(task)
    assert (len(prompts), unread, task.expected(), task.notes()) == (items, [], items, [])
    assert len({p.id for p in prompts}) == len({p.item for p in prompts}) == items
    assert len({p.domain for p in prompts}) == subjects


def test_the_sample_of_redux_has_the_subjects_that_mmlu_gives_its_questions(
    shared_data: Path,
) -> None:
    """Held against plain MMLU: the subject is read off `id` alone, and the labels are MMLU's."""
    sample, unread = parts(benchmark("mmlu_redux", shared_data))
    assert (len(sample), unread) == (2000, [])
    known: dict[str, set[tuple[str, str | None]]] = {}
    for prompt in parts(benchmark("mmlu", shared_data))[0]:
        known.setdefault(prompt.messages[0].content, set()).add((prompt.domain, prompt.answer))
    same = [p for p in sample if p.messages[0].content in known]
    assert len(same) > 1900
    assert all((p.domain, p.answer) in known[p.messages[0].content] for p in same)

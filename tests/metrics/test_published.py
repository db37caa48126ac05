"""The published figures are those that were printed, and are found by the model's name only."""

from __future__ import annotations

import pytest

from fusechat.metrics.published import RATINGS, ROWS, TASKS, figures, published_for, source


def test_five_targets_are_there_with_their_rows_in_the_papers_order() -> None:
    rows = {target: list(one.rows) for target, one in figures().items()}
    assert list(rows) == [
        "Llama-3.1-8B-Instruct", "Qwen-2.5-7B-Instruct", "Gemma-2-9B-It",
        "Llama-3.2-3B-Instruct", "Llama-3.2-1B-Instruct",
    ]  # fmt: skip
    small = rows.pop("Llama-3.2-1B-Instruct")
    assert all(list(ROWS) == one for one in rows.values())
    assert small == [{"MMLU-redux": "MMLU"}.get(row, row) for row in ROWS[:-1]]
    assert set(TASKS) == {*ROWS, "MMLU"}
    assert set(RATINGS) < set(ROWS)


def test_the_averages_as_printed_are_the_plain_means_of_the_columns() -> None:
    # Ratings enter on their scale of 10. One of the 16 printed averages is 0.054 off its column.
    off = {
        (target, column): round(mean - one.average[column], 3)
        for target, one in figures().items()
        for column in one.models
        if abs((mean := sum(r[column] for r in one.rows.values()) / len(one.rows))
               - one.average[column]) > 0.0501
    }  # fmt: skip
    assert off == {("Llama-3.2-1B-Instruct", "base"): -0.054}


def test_single_figures_are_as_printed() -> None:
    llama = figures()["Llama-3.1-8B-Instruct"]
    assert llama.rows["AlpacaEval-2"] == {
        "base": 28.3,
        "tulu3_8b": 33.4,
        "sft": 41.3,
        "fused": 65.4,
    }
    assert figures()["Qwen-2.5-7B-Instruct"].rows["HumanEval"]["fused"] == 79.9
    assert [t for t, one in figures().items() if "tulu3_8b" in one.models] == [llama.target]
    assert "arXiv 2503.04222" in source()
    assert "SLIT-AI/FuseChat-3.0" in source()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("/cache/models--Qwen--Qwen2.5-7B-Instruct/snapshots/a09a", "Qwen-2.5-7B-Instruct"),
        ("google/gemma-2-9b-it", "Gemma-2-9B-It"),
        ("FuseAI/FuseChat-Llama-3.2-3B-SFT", "Llama-3.2-3B-Instruct"),
        ("C:\\models\\Llama-3.2-1B-Instruct", "Llama-3.2-1B-Instruct"),
        ("Llama-3.1-8B", None),
        ("Qwen/Qwen2.5-Coder-7B-Instruct", None),
        ("Qwen/Qwen2.5-72B-Instruct", None),
        ("google/gemma-2-2b-it", None),
        ("allenai/Llama-3.1-Tulu-3-8B", None),
        ("", None),
    ],
)
def test_a_target_is_found_by_family_version_size_and_tuning(name: str, target: str | None) -> None:
    found = published_for([name])
    assert (found.target if found else None) == target


def test_the_first_name_that_is_known_decides() -> None:
    names = ["./trained", "google/gemma-2-9b-it", "Qwen/Qwen2.5-7B-Instruct"]
    found = published_for(names)
    assert found is not None
    assert found.target == "Gemma-2-9B-It"
    assert published_for([]) is None

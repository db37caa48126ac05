"""`benchmarks/grading.py`: what it makes of gold is graded as it was made to be."""

from __future__ import annotations

from pathlib import Path

import pytest

grading = pytest.importorskip("grading")


def test_no_time_is_told_where_a_verdict_is_not_the_one_that_was_made() -> None:
    right, wrong = {0: 1.0, 1: 0.0, 2: 1.0}, {0: 0.0, 1: 1.0, 2: 1.0}
    assert grading.faults("gsm8k", "robust", right) == []
    assert grading.faults("gsm8k", "robust", wrong) == [0, 1]
    assert grading.faults("gsm8k", "paper", wrong) == [0]


def test_every_item_has_reasoning_of_its_own() -> None:
    texts = [grading.reasoning(number) for number in range(50)]
    assert len(set(texts)) == 50
    assert all(1000 < len(text) < 2500 for text in texts)


def test_other_forms_of_an_answer() -> None:
    assert grading.other_form("-3") == "-3.0"
    assert grading.other_form("(1,\\frac{1}{2})") == "(1, \\dfrac{1}{2})"


def test_a_row_of_the_table_from_real_items(shared_data: Path) -> None:
    told = grading.line("amc23", str(shared_data), "robust", 10, 1)
    assert told.startswith("| amc23 | robust | 10 | 10 | ")

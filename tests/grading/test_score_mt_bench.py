"""`fusechat score mt_bench` on files of FastChat's layout, worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chat_cases import lines
from fusechat.errors import RecipeError
from fusechat.grading.score_mt_bench import agreement, score


def row(question: int, turn: int, rating: float, model: str = "mine") -> dict[str, Any]:
    kind = "single-v1" if turn == 1 else "single-v1-multi-turn"
    return {
        "question_id": question, "model": model, "judge": ["gpt-4", kind], "user_prompt": "p",
        "judgment": f"[[{rating}]]", "score": rating, "turn": turn, "tstamp": 1.5,
    }  # fmt: skip


def test_a_hand_worked_file(tmp_path: Path, shared_data: Path) -> None:
    # Turn 1: 8, 6 and none; turn 2: 10, 3 and 4: (8 + 6) / 2, 17 / 3, and 31 / 5 in all.
    rows = [row(81, 1, 8), row(81, 2, 10), row(82, 1, 6), row(82, 2, 3), row(111, 1, -1),
            row(111, 2, 4)]  # fmt: skip
    found = score(lines(tmp_path / "j.jsonl", rows), shared_data)
    assert found["score"] == pytest.approx(31 / 5)
    assert found["turn_1"] == pytest.approx(7)
    assert found["turn_2"] == pytest.approx(17 / 3)
    assert found["categories"] == {"writing": pytest.approx(27 / 4), "math": pytest.approx(4)}
    assert (found["n"], found["n_expected"], found["unparsable"]) == (5, 160, 1)
    assert found["missing"]["n"] == 154
    assert found["missing"]["items"][:3] == ["83#1", "83#2", "84#1"]
    assert (found["model"], found["judge"]) == ("mine", "gpt-4")
    assert json.loads(json.dumps(found)) == found


def test_without_the_questions_the_160_answers_of_the_benchmark_are_expected(
    tmp_path: Path,
) -> None:
    rows = [row(number, turn, 7.5) for number in range(81, 161) for turn in (1, 2)]
    found = score(lines(tmp_path / "j.jsonl", rows), None)
    assert (found["score"], found["n"], found["missing"]["n"]) == (7.5, 160, 0)
    assert found["categories"] == {}
    assert found["status"] == "ok"


def test_the_first_of_two_judgments_counts_and_both_that_and_strangers_are_told(
    tmp_path: Path,
) -> None:
    rows = [row(81, 1, 8), row(81, 1, 2), row(9, 1, 1), row(81, 3, 1)]
    found = score(lines(tmp_path / "j.jsonl", rows), None)
    assert (found["score"], found["n"]) == (8, 1)
    assert found["doubled"] == {"n": 1, "items": ["81#1"]}
    assert found["unknown"] == {"n": 2, "items": ["9#1", "81#3"]}


def test_several_models_of_a_file_are_scored_by_themselves(tmp_path: Path) -> None:
    rows = [row(81, 1, 8, "one"), row(81, 1, 2, "two"), row(81, 2, 4, "one")]
    found = score(lines(tmp_path / "j.jsonl", rows), None)
    assert [(m["model"], m["score"], m["turn_2"]) for m in found["models"]] == [
        ("one", 6, 4), ("two", 2, None),
    ]  # fmt: skip


def test_two_judges_agree_by_how_far_their_ratings_are_apart(tmp_path: Path) -> None:
    ours = lines(tmp_path / "ours.jsonl", [
        row(81, 1, 8), row(81, 2, 5), row(82, 1, 2), row(82, 2, -1), row(83, 1, 9),
    ])  # fmt: skip
    theirs = lines(tmp_path / "theirs.jsonl", [
        row(81, 1, 8), row(81, 2, 6), row(82, 1, 4), row(82, 2, 3),
    ])  # fmt: skip
    found = agreement(ours, theirs, None)
    assert (found["n"], found["not_published"]) == (3, 1)
    assert (found["same"], found["within_one"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert (found["mean_ours"], found["mean_published"]) == (5, 6)
    # Deviations (3, 0, -3) and (2, 0, -2) lie on a line.
    assert found["correlation"] == pytest.approx(1)
    with pytest.raises(RecipeError, match="nothing to compare"):
        agreement(lines(tmp_path / "other.jsonl", [row(99, 1, 1)]), theirs, None)


def test_nothing_but_unparsable_judgments_is_no_score(tmp_path: Path) -> None:
    found = score(lines(tmp_path / "j.jsonl", [row(81, 1, -1)]), None)
    assert found["score"] is None
    assert found["unparsable"] == 1


@pytest.mark.parametrize(("rating", "told"), [(11, "11 is no rating"), (-2, "-2 is no rating")])
def test_a_rating_that_cannot_be_is_told_with_its_line(
    tmp_path: Path, rating: float, told: str
) -> None:
    file = lines(tmp_path / "j.jsonl", [row(81, 1, 8), row(81, 2, rating)])
    with pytest.raises(RecipeError, match=f"j.jsonl:2  score  {told}"):
        score(file, None)


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="it holds no judgment"):
        score(lines(tmp_path / "j.jsonl", []), None)

"""`fusechat score arena_hard` on files of Arena-Hard's layout, worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chat_cases import items, lines, response
from fusechat.errors import RecipeError
from fusechat.grading.score_arena_hard import agreement, score
from fusechat.records import Prompt
from fusechat.tasks.arena_hard import ArenaHard


def row(item: str, first: Any, second: Any, model: str = "mine") -> dict[str, Any]:
    games = [{"user_prompt": "p", "judgment": "words", "score": label} for label in (first, second)]
    return {"question_id": item, "model": model, "judge": "gpt-4-1106-preview", "games": games}


def data_in(folder: Path, *names: str, model: str | None = None) -> Path:
    """A folder with questions, and with both answers to each where a model is named."""
    home = folder / "data/arena-hard-v0.1"
    lines(home / "question.jsonl", [{"uid": name, "prompt": f"{name}?"} for name in names])
    for number, who in enumerate(("gpt-4-0314", model) if model else ()):
        lines(home / f"model_answer/{who}.jsonl", [
            {"uid": name, "model": who, "messages": [
                {"role": "assistant", "content": {"answer": "x" * (10 + number * 7 * place)}}]}
            for place, name in enumerate(names)
        ])  # fmt: skip
    return folder / "data"


def test_a_hand_worked_file(tmp_path: Path) -> None:
    # q1: game 1 B>>A (the model is B): 3 won; game 2 A>B: 1 won.    4 of 4
    # q2: A=B: a tie, half won; B>A (the model is A): lost.         0.5 of 2
    # q3: A>>B: 3 lost; no verdict.                                   0 of 3
    file = lines(tmp_path / "j.jsonl", [
        row("q1", "B>>A", "A>B"), row("q2", "A=B", "B>A"), row("q3", "A>>B", None),
    ])  # fmt: skip
    found = score(file, data_in(tmp_path, "q1", "q2", "q3"))
    assert found["win_rate"] == pytest.approx(100 * 4.5 / 9)
    assert found["games"] == {
        "much better": 1, "better": 1, "tie": 1, "worse": 1, "much worse": 1,
    }  # fmt: skip
    assert (found["n"], found["n_expected"], found["unparsable"]) == (3, 3, 1)
    assert found["missing"] == {"n": 0, "items": []}
    assert found["status"] == "partial"
    assert (found["model"], found["judge"]) == ("mine", "gpt-4-1106-preview")
    assert found["baseline"] == "gpt-4-0314"
    assert found["interval"][0] < 50 < found["interval"][1]
    assert json.loads(json.dumps(found)) == found


def test_an_unparsable_game_is_left_out_and_is_no_tie(tmp_path: Path) -> None:
    broken = [None, "A>B>A", "tie", ""]
    rows = [row(f"q{n}", label, "A>B") for n, label in enumerate(broken)]
    found = score(lines(tmp_path / "j.jsonl", rows), None)
    assert found["win_rate"] == 100.0
    assert found["unparsable"] == 4
    assert found["games"]["tie"] == 0


def test_missing_doubled_and_unknown_items_are_told(tmp_path: Path) -> None:
    rows = [row("q1", "B>A", "A>B"), row("q1", "A>B", "B>A"), row("q7", "A>B", "B>A")]
    found = score(lines(tmp_path / "j.jsonl", rows), data_in(tmp_path, "q1", "q2", "q3"))
    assert found["win_rate"] == 100.0
    assert found["n"] == 1
    assert found["missing"] == {"n": 2, "items": ["q2", "q3"]}
    assert found["doubled"] == {"n": 1, "items": ["q1"]}
    assert found["unknown"] == {"n": 1, "items": ["q7"]}


def test_without_the_questions_the_500_of_the_benchmark_are_expected(tmp_path: Path) -> None:
    found = score(lines(tmp_path / "j.jsonl", [row("q1", "B>A", "A>B")]), None)
    assert (found["n_expected"], found["missing"]) == (500, {"n": 499, "items": []})


def test_several_models_of_a_file_are_scored_by_themselves(tmp_path: Path) -> None:
    rows = [row("q1", "B>A", "A>B", "one"), row("q1", "A>B", "B>A", "two")]
    found = score(lines(tmp_path / "j.jsonl", rows), None)
    assert [(m["model"], m["win_rate"]) for m in found["models"]] == [("one", 100), ("two", 0)]


def test_the_later_layout_of_rows_is_read(tmp_path: Path) -> None:
    later = {"uid": "q1", "model": "m", "judge": "j", "games": [
        {"judgment": {"answer": "So [[B>A]]"}}, {"judgment": "So [[A>B]]"}]}  # fmt: skip
    found = score(
        lines(tmp_path / "j.jsonl", [later, later | {"uid": "q2", "games": [None]}]), None
    )
    assert (found["win_rate"], found["n"], found["unparsable"]) == (100.0, 1, 2)


def test_style_is_controlled_where_both_answers_are_there(tmp_path: Path) -> None:
    names = [f"q{n}" for n in range(6)]
    rows = [row(name, "A>B" if n % 2 else "B>A", "A>B") for n, name in enumerate(names)]
    file = lines(tmp_path / "j.jsonl", rows)
    found = score(file, data_in(tmp_path, *names, model="mine"))["style_controlled"]
    assert found["length_in"] == "characters"
    assert 0 < found["win_rate"] < 100
    assert set(found["weights"]) == {"length", "headers", "lists", "bold"}
    without = score(file, data_in(tmp_path / "other", *names))["style_controlled"]
    assert without["win_rate"] is None
    assert "--data-dir" in without["why"]


def test_it_says_what_the_benchmark_says_of_the_same_verdicts(tmp_path: Path) -> None:
    task, labels = ArenaHard(), ("A>>B", "A>B", "A=B", "B>A", "B>>A")
    rows, values, details = [], [], []
    for one in labels:
        for two in labels:
            prompt = Prompt.of(f"{one} {two}", domain="all", reference="r")
            readings = {"1": {"verdict": one}, "2": {"verdict": two}}
            verdict = task.verdict(prompt, response(prompt, "a"), readings)
            values.append(verdict.value)
            details.append(verdict.details)
            rows.append(row(prompt.id, one, two))
    found = score(lines(tmp_path / "j.jsonl", rows), None)
    judged = items(values, details=details)
    assert found["win_rate"] == pytest.approx(task.score(judged))
    assert found["interval"] == task.extras(judged)["interval_of_battles"]
    assert found["games"] == task.extras(judged)["games"]


def test_two_judges_agree_on_the_items_of_which_both_prefer_the_same(tmp_path: Path) -> None:
    # Ours: 1 of 1, 3 of 4 (a strong win, a loss), a draw; theirs: won, lost, won. Of q1 they agree,
    # of q2 not, of q3 half; q4 has one verdict, q5 is not theirs.
    ours = lines(tmp_path / "ours.jsonl", [
        row("q1", "B>A", "A>B"), row("q2", "B>>A", "B>A"), row("q3", "A=B", "A=B"),
        row("q4", "A>B", None), row("q5", "A>B", "A>B"),
    ])  # fmt: skip
    theirs = lines(tmp_path / "theirs.jsonl", [
        row("q1", "B>>A", "A>>B"), row("q2", "A>B", "B>A"), row("q3", "B>A", "A=B"),
        row("q4", "A>B", "B>A"),
    ])  # fmt: skip
    found = agreement(ours, theirs, None)
    assert (found["n"], found["not_published"]) == (3, 1)
    assert found["agreement"] == pytest.approx(1.5 / 3)
    assert found["mean_ours"] == pytest.approx((1 + 0.75 + 0.5) / 3)
    assert found["mean_published"] == pytest.approx((1 + 0 + 0.75) / 3)
    with pytest.raises(RecipeError, match="nothing to compare"):
        agreement(lines(tmp_path / "other.jsonl", [row("q9", "A>B", "B>A")]), theirs, None)


def test_nothing_but_unparsable_games_is_no_score(tmp_path: Path) -> None:
    found = score(lines(tmp_path / "j.jsonl", [row("q1", None, None)]), None)
    assert found["win_rate"] is None
    assert found["unparsable"] == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it holds no judgment"),
        ('{"model": "m", "games": []}', "it names no item"),
        ('{"question_id": "q", "games": []}', "'model' is missing"),
        ("nonsense", "not JSON"),
    ],
)
def test_faulty_files_are_told_with_their_line(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "j.jsonl"
    file.write_text(text)
    with pytest.raises(RecipeError, match=reason):
        score(file, None)

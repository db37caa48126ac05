"""Imports: every layout is told and read, `given` gives the same texts, nothing is lost unsaid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.cli import main
from fusechat.errors import RecipeError
from fusechat.pools.importing import Imported, import_pool
from fusechat.pools.layouts import LAYOUTS
from fusechat.pools.rows import number, source_name, text_of
from fusechat.recipe import load_recipe
from fusechat.runner import run

USER = {"role": "user", "content": "1+1?"}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


ROWS: dict[str, tuple[dict[str, Any], list[tuple[str, str, float | None]]]] = {
    "distilabel": (
        {"instruction": "1+1?", "generations": ["2", "3"], "generation_models": ["a/x", "a/y"],
         "ratings": [5, "1"], "model_name": "the-judge"},
        [("a/x", "2", 5.0), ("a/y", "3", 1.0)],
    ),
    "ultrafeedback": (
        {"instruction": "1+1?", "source": "flan", "completions": [
            {"model": "x", "response": "2", "overall_score": 8.5,
             "annotations": {"helpfulness": {"Rating": "5"}, "honesty": {"Rating": "N/A"}}},
            {"model": "y", "response": "3", "overall_score": 1}]},
        [("x", "2", 8.5), ("y", "3", 1.0)],
    ),
    "binarized": (
        {"prompt": "1+1?", "chosen": [USER, answer("2")], "rejected": [USER, answer("3")],
         "score_chosen": 7.5, "score_rejected": 4.0},
        [("file", "2", 7.5), ("file", "3", 4.0)],
    ),
    "wrpo": (
        {"prompt": USER, "chosen": [answer("two"), answer("2")], "rejected": [answer("3")]},
        [("wrpo-sources", "two", 1.0), ("wrpo-target", "2", 1.0), ("wrpo-target", "3", 0.0)],
    ),
    "fusechat": (
        {"dataset": "set", "source_model": "gemma-2-27b-it", "prompt": [USER],
         "chosen": [answer("2")], "rejected": [answer("3")]},
        [("gemma-2-27b-it", "2", 1.0), ("gemma-2-27b-it", "3", 0.0)],
    ),
    "simpo": (
        {"prompt": "1+1?", "all_generated_responses": ["2", "3"], "all_rm_scores": [0.15, 0.1],
         "chosen": [USER, answer("2")], "rejected": [USER, answer("3")]},
        [("file", "2", 0.15), ("file", "3", 0.1)],
    ),
    "llamafactory": (
        {"conversations": [{"from": "human", "value": "1+1?"}],
         "chosen": {"from": "gpt", "value": "2"}, "rejected": {"from": "gpt", "value": "3"}},
        [("file", "2", 1.0), ("file", "3", 0.0)],
    ),
    "columns": (
        {"question": "1+1?", "small": {"solution": "3", "is_correct": False},
         "big": {"solution": "2", "is_correct": True}},
        [("small", "3", 0.0), ("big", "2", 1.0)],
    ),
    "long": (
        {"instruction": "1+1?", "output": "2", "generator": "x", "dataset": "d"},
        [("x", "2", None)],
    ),
}  # fmt: skip


def imported(
    tmp_path: Path, rows: Sequence[Any], layout: str = "auto", **more: Any
) -> tuple[Imported, Path]:
    path = tmp_path / "file.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))
    out = tmp_path / "pool"
    return import_pool(layout, [path], out, **more), out


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def stored_in(out: Path) -> list[tuple[str, str, float | None]]:
    rows = [row for path in out.glob("responses/*.jsonl") for row in lines_of(path)]
    return sorted((row["model"], row["response"], row["score"]) for row in rows)


def test_the_table_above_has_every_layout() -> None:
    assert set(ROWS) == set(LAYOUTS)


@pytest.mark.parametrize("layout", sorted(ROWS))
def test_a_layout_is_told_and_read_with_its_models_and_scores(tmp_path: Path, layout: str) -> None:
    row, expected = ROWS[layout]
    found, out = imported(tmp_path, [row])
    assert set(found.layouts.values()) == {layout}
    assert stored_in(out) == sorted(expected)
    assert [one["prompt"] for one in lines_of(out / "prompts.jsonl")] == [[USER]]
    assert not lines_of(out / "unread.jsonl")
    load_recipe(out / "pool.yaml")  # has no fault


def test_a_whole_conversation_has_its_last_turn_as_the_response(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"},
             {"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]  # fmt: skip
    row = {"dataset": "d", "source_model": "Mistral-Large", "conversations": turns}
    found, out = imported(tmp_path, [row])
    assert list(found.layouts.values()) == ["fusechat"]
    (response,) = lines_of(out / "responses" / "Mistral-Large.jsonl")
    assert response["response"] == "2"
    assert [turn["role"] for turn in response["prompt"]] == ["user", "assistant", "user"]


def test_what_cannot_be_read_is_kept_with_place_and_reason(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "response": "fine", "model": "x"},
        "{not json",
        "[1]",
        {"prompt": "b", "response": " ", "model": "x"},
        {"response": "no prompt", "model": "x"},
    ]
    found, out = imported(tmp_path, rows, "long")
    assert [(row["place"], row["reason"]) for row in lines_of(out / "unread.jsonl")] == [
        ("file.jsonl:2", "not JSON"),
        ("file.jsonl:3", "row is not an object"),
        ("file.jsonl:4", "empty response"),
        ("file.jsonl:5", "no prompt in the row"),
    ]
    assert (found.rows, sum(found.unread.values()), sum(found.responses.values())) == (5, 4, 1)


def test_one_missing_response_of_a_row_does_not_take_the_others_along(tmp_path: Path) -> None:
    row = {"prompt": "a", "all_generated_responses": ["x", None, "z"], "all_rm_scores": [1, 2, 3]}
    _, out = imported(tmp_path, [row])
    assert [(r["response"], r["score"]) for r in lines_of(out / "responses/file.jsonl")] == [
        ("x", 1.0), ("z", 3.0),
    ]  # fmt: skip
    assert lines_of(out / "unread.jsonl") == [
        {"place": "file.jsonl:1", "reason": "no text in the response", "response": 1}
    ]


def test_models_whose_short_names_are_one_become_two_sources(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "response": m, "model": m} for m in ("a/chat", "b/chat", "A/Chat")]
    found, out = imported(tmp_path, rows)
    assert found.models == {"chat": "a/chat", "chat-2": "b/chat", "Chat-3": "A/Chat"}
    assert len(list(out.glob("responses/*.jsonl"))) == 3


def test_a_model_that_is_called_like_one_of_a_recipes_own_is_read_all_the_same(
    tmp_path: Path,
) -> None:
    rows = [{"prompt": "a", "response": m, "model": m} for m in ("target", "train.sft")]
    found, out = imported(tmp_path, rows)
    assert list(found.models) == ["stored-target", "stored-train.sft"]
    load_recipe(out / "pool.yaml")


def test_the_model_is_named_on_the_call_where_the_file_names_none(tmp_path: Path) -> None:
    found, _ = imported(tmp_path, [{"prompt": "a", "response": "b"}], model="org/one")
    assert found.models == {"one": "org/one"}


def test_all_faults_are_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text('{"colour": "red"}\n')
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(RecipeError) as told:
        import_pool("auto", [tmp_path / "odd.jsonl", tmp_path / "gone.json"], tmp_path / "full")
    text = str(told.value)
    assert "is there already and not empty" in text
    assert "there is no such file" in text
    assert "Its columns: colour" in text
    assert "3 faults" in text
    with pytest.raises(RecipeError, match=r"is no layout\. There are: auto, simpo"):
        import_pool("simpoo", [tmp_path / "odd.jsonl"], tmp_path / "new")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_damaged_file_leaves_no_half_written_pool(tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    good.write_text('{"prompt": "a", "response": "b"}\n')
    (tmp_path / "bad.json").write_text('[{"prompt": ')
    with pytest.raises(Exception, match="is not JSON"):
        import_pool("long", [good, tmp_path / "bad.json"], tmp_path / "pool")
    assert not [path for path in (tmp_path / "pool").rglob("*") if path.is_file()]


def test_a_run_of_the_pool_has_the_same_texts_scores_and_ends(tmp_path: Path) -> None:
    row = {"prompt": "a", "response": "long " * 3, "model": "m", "score": 0.5}
    rows = [
        {**row, "finish_reason": "stop"},
        {**row, "response": "cut", "finish_reason": "length", "score": 0.9},
        {**row, "response": "unscored", "score": None},
        {**row, "response": "twice", "score": 0.1},
        {**row, "response": "twice", "score": 0.2},
    ]
    _, out = imported(tmp_path, rows)
    result = run(load_recipe(out / "pool.yaml"), tmp_path / "ws")
    responses = {r.id: r for r in result["sample/m"].rows()}
    assert [r.text for r in responses.values()] == [r["response"] for r in rows]
    said = {}
    for score in result["annotate/stored"].rows():
        said[responses[score.response_id].text] = (score.status, score.value, score.reason)
    assert said["long " * 3] == ("ok", 0.5, "")
    assert said["cut"] == ("unscorable", None, "the response is not whole (length)")
    assert said["unscored"] == ("unscorable", None, "no score was stored with this response")
    assert said["twice"][2] == "different scores were stored with this response"


def test_real_files_round_trip_to_the_same_texts(tmp_path: Path, shared_data: Path) -> None:
    files = sorted((shared_data / "pools/alpaca_eval_outputs").glob("*.json"))
    texts: dict[str, set[str]] = {}
    cut = []
    for path in files:
        rows = json.loads(path.read_text())[:40]
        cut.append(tmp_path / path.name)
        cut[-1].write_text(json.dumps(rows))
        texts[rows[0]["generator"]] = {row["output"] for row in rows}
    found = import_pool("auto", cut, tmp_path / "pool")
    assert len(found.models) == 4
    result = run(load_recipe(tmp_path / "pool/pool.yaml"), tmp_path / "ws")
    for source, model in found.models.items():
        rows = list(result[f"sample/{source}"].rows())
        assert {row.text for row in rows} == texts[model]
        assert {row.model for row in rows} == {model}
    assert result["build"].manifest["counts"]["sft"] == 40


def test_real_ranking_and_solution_files_are_read_whole(tmp_path: Path, shared_data: Path) -> None:
    ranking = shared_data / "train/dpo_en_demo.json"
    found = import_pool("auto", [ranking], tmp_path / "ranking")
    assert list(found.layouts.values()) == ["llamafactory"]
    assert (found.rows, sum(found.responses.values()), found.unread) == (300, 600, {})
    solutions = shared_data / "pools/gsm8k_model_solutions.jsonl"
    found = import_pool("auto", [solutions], tmp_path / "solutions")
    assert (found.rows, sum(found.responses.values()), found.unread) == (660, 2640, {})
    first = lines_of(tmp_path / "solutions/prompts.jsonl")[0]
    assert first["answer"] == "5"


def test_the_command_says_what_it_found_and_the_recipe_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([ROWS["simpo"][0]]))
    assert main(["import", "auto", str(path), "--out", str(tmp_path / "p")]) == 0
    said = capsys.readouterr().out
    assert "a.json: simpo (SimPO: all_generated_responses, all_rm_scores)" in said
    assert "1 rows: 1 prompts, 2 responses of 1 sources, 2 with a score" in said
    recipe = str(tmp_path / "p/pool.yaml")
    assert main(["check", recipe, "--workspace", str(tmp_path / "w")]) == 0


@given(st.text(max_size=80))
@settings(max_examples=60)
def test_any_model_name_becomes_a_name_that_a_recipe_takes(model: str) -> None:
    import re

    assert re.fullmatch(r"\w[\w.-]*", source_name(model))
    assert len(source_name(model)) <= 60


def test_numbers_and_texts_are_taken_only_where_they_are_such() -> None:
    values = ["4", " 4.5", "N/A", None, True, float("nan"), 3]
    assert [number(value) for value in values] == [4.0, 4.5, None, None, 1.0, None, 3.0]
    assert text_of([USER, answer("2")]) == "2"
    assert text_of([USER]) is None
    assert text_of(3) is None

"""Benchmarks through the plan: two turns, judges, samples, profiles, rows that are skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import fusechat
from fusechat.errors import RecipeError
from fusechat.files import read_json
from fusechat.parts import Where
from fusechat.planner import plan
from fusechat.progress import Progress
from fusechat.records import Prompt, Response, Score
from fusechat.results import RunResult
from fusechat.stages.benchmark_items import read_answers
from fusechat.stages.evaluate_items import ItemResult
from fusechat.tables import read_table
from fusechat.unit_contexts import unit_context
from tiny_models import tiny_model

TALK = {"use": "judged_parts:Talk", "name": "talk"}
SUMS = {"use": "judged_parts:Sums", "name": "sums"}
REFEREE = {"use": "judged_parts:Referee"}


def speaker(text: str, **settings: Any) -> dict[str, Any]:
    return {"use": "judged_parts:Speaker", "text": text, **settings}


def recipe_in(folder: Path, **evaluate: Any) -> Path:
    path = folder / "recipe.yaml"
    base = {"models": {"base": speaker("a a a"), "fused": speaker("a a a a a a")}}
    path.write_text(yaml.safe_dump({"name": "bench", "evaluate": base | evaluate}))
    return path


def ran(folder: Path, **evaluate: Any) -> RunResult:
    recipe = fusechat.load_recipe(recipe_in(folder, **evaluate))
    return fusechat.run(recipe, folder / "workspace")


def rows_of(result: RunResult, unit: str, kind: type[Any], table: str = "data") -> list[Any]:
    return list(read_table(result[unit].folder / table, kind))


def items_of(result: RunResult, model: str) -> list[ItemResult]:
    found = rows_of(result, "evaluate/compare", ItemResult, "items")
    return [item for item in found if item.model == model]


def test_a_second_turn_is_asked_after_the_models_own_first_answer(tmp_path: Path) -> None:
    result = ran(tmp_path, benchmarks=[TALK], judge=REFEREE)
    (second,) = rows_of(result, "evaluate/talk/base/turn_2/prompts", Prompt, "prompts")
    assert [m.role for m in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1].content == "a a a T=0.7 n=1 i=0"
    assert second.messages[2].content == "And then?"
    (answer,) = rows_of(result, "evaluate/talk/base/turn_2/sample@0.7", Response)
    assert (answer.source, answer.text) == ("base", "a a a T=0.7 n=3 i=0")
    assert not rows_of(result, "evaluate/talk/base/turn_2/sample@0", Response)


def test_each_category_is_sampled_at_its_own_temperature(tmp_path: Path) -> None:
    result = ran(tmp_path, benchmarks=[TALK], judge=REFEREE)
    calm = rows_of(result, "evaluate/talk/base/sample@0", Response)
    wild = rows_of(result, "evaluate/talk/base/sample@0.7", Response)
    assert [row.text for row in calm] == ["a a a T=0 n=1 i=0"]
    assert [row.text for row in wild] == ["a a a T=0.7 n=1 i=0"] * 2


def test_all_turns_are_judged_in_all_games_and_items_stand_side_by_side(tmp_path: Path) -> None:
    result = ran(tmp_path, benchmarks=[TALK], judge=REFEREE)
    # Of 3 answers to a first question and 1 to a second one, two games each.
    assert result["evaluate/talk/base/judge/prompts"].manifest["counts"] == {
        "prompts": 8,
        "asked": 8,
    }
    items = items_of(result, "base")
    assert [(item.item, item.turn, item.group) for item in items] == [
        ("1", 1, "calm"), ("2", 1, "wild"), ("3", 1, "wild"), ("3", 2, "wild"),
    ]  # fmt: skip
    assert [item.value for item in items] == [0.3] * 4
    assert items[3].prompt_id == items_of(result, "fused")[3].prompt_id
    table = read_json(result["evaluate/compare"].folder / "benchmarks.json")
    assert "talk" in [row.get("name") for row in table["rows"]]


def test_an_answer_off_the_format_is_asked_for_once_more_then_counted(tmp_path: Path) -> None:
    judge = REFEREE | {"dumb": ["First"], "mute": ["Second"]}
    result = ran(tmp_path, benchmarks=[TALK], judge=judge)
    scores = rows_of(result, "evaluate/talk/base/annotate", Score)
    # First: read in the second round. Second: never. In the table of scores by temperature.
    assert [score.status for score in scores] == ["ok", "error", "ok", "ok"]
    assert scores[1].reason == "the judge's answer is off the format"
    assert json.loads(scores[1].details or "")["judge"] == dict.fromkeys("12", "Hard to say.")
    assert result["evaluate/talk/base/judge/again/prompts"].manifest["counts"]["asked"] == 4
    items = items_of(result, "base")
    assert (items[1].outcome, items[1].value) == ("error", None)


def test_a_judge_that_fails_and_a_request_that_failed_are_never_a_score(tmp_path: Path) -> None:
    models = {"base": speaker("a", fails=["Third"]), "fused": speaker("a a", fails=["then"])}
    judge = REFEREE | {"down": ["First"]}
    result = ran(tmp_path, benchmarks=[TALK], models=models, judge=judge)
    base, fused = items_of(result, "base"), items_of(result, "fused")
    assert [item.outcome for item in base] == ["error", "scored", "error", "error"]
    assert [item.reason for item in base] == [
        "the judge gave no answer", "", "the request failed", "no response",
    ]  # fmt: skip
    assert [item.outcome for item in fused] == ["error", "scored", "scored", "error"]


def test_failed_answers_make_a_row_partial_and_stop_no_other_row(tmp_path: Path) -> None:
    models = {"base": speaker("a", fails=["?"]), "fused": speaker("a a")}
    result = ran(tmp_path, benchmarks=[TALK, SUMS], models=models, judge=REFEREE)
    table = read_json(result["evaluate/compare"].folder / "benchmarks.json")
    rows = {row["name"]: row for row in table["rows"] if row.get("name") in ("talk", "sums")}
    assert [row["status"] for row in rows.values()] == ["partial", "partial"]
    assert rows["talk"]["models"]["base"]["score"] is None
    assert rows["talk"]["models"]["fused"]["score"] == 2.0


def test_a_cut_response_is_judged_as_it_is(tmp_path: Path) -> None:
    models = {"base": speaker("a", cuts=["First"])}
    result = ran(tmp_path, benchmarks=[TALK], models=models, judge=REFEREE)
    assert [item.outcome for item in items_of(result, "base")] == ["scored"] * 4


def test_a_judges_answers_are_taken_over_and_a_new_model_costs_only_itself(tmp_path: Path) -> None:
    first = ran(tmp_path, benchmarks=[TALK], judge=REFEREE)
    assert "evaluate/talk/base/judge/sample" in first.ran
    models = {
        "base": speaker("a a a"), "fused": speaker("a a a a a a"), "third": speaker("aa")
    }  # fmt: skip
    second = ran(tmp_path, benchmarks=[TALK], judge=REFEREE, models=models)
    others = [name for name in second.ran if name != "evaluate/compare"]
    assert {name.split("/")[2] for name in others} == {"third"}
    renamed = {"old": speaker("a a a")}
    third = ran(tmp_path, benchmarks=[TALK], judge=REFEREE, models=renamed)
    assert third["evaluate/talk/old/judge/sample"].manifest["counts"]["adopted"] == 8


def test_every_sample_counts_in_an_items_value(tmp_path: Path) -> None:
    models = {"base": speaker("So the answer is", plain=True)}
    result = ran(tmp_path, benchmarks=[SUMS], models=models)
    assert len(rows_of(result, "evaluate/sums/base/sample", Response)) == 8
    robust = [item for item in items_of(result, "base") if item.profile == ""]
    # The samples say "the answer is 0" and "1": of two, one is right at 0 and 1, none at 2 and 3.
    assert [item.value for item in robust] == [0.5, 0.5, 0.0, 0.0]


def test_several_samples_are_also_read_one_by_one(tmp_path: Path) -> None:
    models = {"base": speaker("So the answer is", plain=True)}
    result = ran(tmp_path, benchmarks=[SUMS], models=models)
    unit = result.plan["evaluate/compare"]
    context = unit_context(result.plan, unit, Where(), None, Progress(unit.name))
    found = read_answers(context, "sums", "base", "")
    assert [one.values.tolist() for one in found.by_sample] == [[1, 0, 0, 0], [0, 1, 0, 0]]


def test_a_row_with_a_failed_sample_beside_a_good_one_is_partial(tmp_path: Path) -> None:
    whole, short = speaker("So it is", plain=True), speaker("So it is", plain=True, misses=1)
    result = ran(tmp_path, benchmarks=[SUMS], models={"base": whole, "fused": short})
    found = read_json(result["evaluate/compare"].folder / "benchmarks.json")
    (row,) = [row for row in found["rows"] if row["title"] == "Sums"]
    assert row["status"] == "partial"
    assert "fused: 4 samples of items that have others have no verdict." in row["reason"]
    assert "base:" not in row["reason"]


def test_one_temperature_for_all_categories_is_told_also_where_it_is_that_of_one(
    tmp_path: Path,
) -> None:
    path = recipe_in(tmp_path, benchmarks=[TALK | {"temperature": 0.7}], judge=REFEREE)
    unlike = plan(fusechat.load_recipe(path))["evaluate/compare"].settings["benchmarks"]["talk"]
    assert "temperature is 0.7 throughout, and by category in the paper" in unlike["unlike"]


def test_decoding_is_the_benchmarks_and_what_a_source_lacks_is_told(tmp_path: Path) -> None:
    result = ran(tmp_path, benchmarks=[SUMS])
    texts = [row.text for row in rows_of(result, "evaluate/sums/base/sample", Response)]
    assert texts[0] == "a a a T=0.2 n=1 i=0"
    settings = plan(result.plan.recipe, tmp_path / "workspace")["evaluate/compare"].settings
    unlike = settings["benchmarks"]["sums"]["unlike"]
    assert "base has no setting for top_p" in unlike


def test_a_bound_of_the_recipe_holds_for_benchmarks_and_is_told(tmp_path: Path) -> None:
    result = ran(tmp_path, benchmarks=[SUMS], max_new_tokens=3)
    said = result.plan["evaluate/compare"].settings["benchmarks"]["sums"]
    assert "max_new_tokens is 3, and 7 in the paper" in said["unlike"]
    assert result.plan["evaluate/sums/base/sample"].settings.part.max_new_tokens == 3
    wider = recipe_in(tmp_path, benchmarks=[SUMS], max_new_tokens=99)
    unit = plan(fusechat.load_recipe(wider))["evaluate/sums/base/sample"]
    assert unit.settings.part.max_new_tokens == 7


def test_an_answer_is_begun_only_where_every_model_goes_on_with_it(tmp_path: Path) -> None:
    one = {"base": speaker("a", begins=True), "fused": speaker("a")}
    result = ran(tmp_path, benchmarks=[SUMS], models=one)
    rows = rows_of(result, "evaluate/sums/prompts", Prompt, "prompts")
    assert [len(row.messages) for row in rows] == [1] * 4
    (tmp_path / "both").mkdir()
    result = ran(tmp_path / "both", benchmarks=[SUMS], models={"base": one["base"]})
    rows = rows_of(result, "evaluate/sums/prompts", Prompt, "prompts")
    assert [row.messages[-1].role for row in rows] == ["assistant"] * 4


def test_a_benchmark_without_data_or_judge_is_skipped_with_the_mend(tmp_path: Path) -> None:
    result = ran(tmp_path, benchmarks=[TALK, SUMS, {"use": "judged_parts:Away", "name": "away"}])
    units = [unit.name for unit in result.plan.units]
    assert not [name for name in units if "/talk/" in name or "/away/" in name]
    said = result.plan["evaluate/compare"].settings["benchmarks"]
    assert "Add 'judge:" in said["talk"]["skipped"]
    assert "Get it: example.org/away (licence: MIT)" in said["away"]["skipped"]
    assert said["sums"]["skipped"] is None


@pytest.mark.parametrize(
    ("evaluate", "words"),
    [
        ({"benchmarks": [{"use": "mini_math"}]}, "is no published benchmark"),
        ({"benchmarks": [TALK], "judges": {"tlak": REFEREE}}, "Did you mean 'talk'"),
        ({"benchmarks": [TALK | {"graded_by": {"use": "length"}}]}, "Remove 'graded_by'"),
        ({"benchmarks": [TALK], "judge": {"use": "judged_parts:Speakr"}}, "cannot be imported"),
        ({"benchmarks": [TALK], "models": {"judge": speaker("a")}}, "Choose another name"),
        ({"benchmarks": []}, "name at least one task"),
        ({"benchmarks": "some"}, "benchmarks"),
    ],
)
def test_a_wrong_evaluation_is_a_fault_before_anything_runs(
    tmp_path: Path, evaluate: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        fusechat.load_recipe(recipe_in(tmp_path, **evaluate))


def test_a_recipe_has_prompts_and_sources_or_only_evaluates(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: empty\n")
    with pytest.raises(RecipeError, match="or 'evaluate' with models of its own"):
        fusechat.load_recipe(path)
    path.write_text("name: half\nprompts: {math: {use: mini_math, split: fusion, take: 2}}\n")
    with pytest.raises(RecipeError, match="'sources' is needed"):
        fusechat.load_recipe(path)


def test_the_recipes_own_models_are_run_by_what_the_recipe_names(tmp_path: Path) -> None:
    """Settings of the source stand in the recipe once; each model is put in."""
    path = tmp_path / "recipe.yaml"
    model = tiny_model(tmp_path / "model")
    evaluate = {"benchmarks": [SUMS], "serve_with": {"use": "vllm", "dtype": "bfloat16"}}
    tree = {"name": "served", "target": {"model": str(model)}, "evaluate": evaluate}
    path.write_text(yaml.safe_dump(tree))
    unit = plan(fusechat.load_recipe(path))["evaluate/sums/target/sample"]
    assert unit.settings.part.part_name() == "vllm"
    assert (unit.settings.part.model, unit.settings.part.temperature) == (str(model), 0.2)


@pytest.mark.parametrize(
    ("serve_with", "words"),
    [
        ({"use": "vllm", "model": "x"}, "Remove 'model'"),
        ({"dtype": "bfloat16"}, "say which source"),
        ({"use": "vlm"}, "Did you mean 'vllm'"),
        ({"use": "vllm", "temprature": 1}, "temprature"),
    ],
)
def test_what_runs_the_recipes_own_models_is_looked_at_first(
    tmp_path: Path, serve_with: dict[str, Any], words: str
) -> None:
    path = tmp_path / "recipe.yaml"
    model = tiny_model(tmp_path / "model")
    evaluate = {"benchmarks": [SUMS], "serve_with": serve_with}
    tree = {"name": "served", "target": {"model": str(model)}, "evaluate": evaluate}
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(RecipeError, match=words):
        fusechat.load_recipe(path)


@pytest.mark.parametrize(
    ("family", "system", "told"),
    [(None, True, True), ("llama", True, False), ("gemma", False, False)],
)
def test_an_unknown_family_is_asked_as_llama_is_and_told(
    shared_data: Path, tmp_path: Path, family: str | None, system: bool, told: bool
) -> None:
    known = {} if family is None else {"family": family}
    path = recipe_in(tmp_path, benchmarks=["amc23"], data_dir=str(shared_data), **known)
    planned = plan(fusechat.load_recipe(path))
    said = planned["evaluate/compare"].settings["benchmarks"]["amc23"]
    assert any("family of the models is not known" in why for why in said["unlike"]) == told
    (prompts,) = planned["evaluate/amc23/prompts"].settings.values()
    first = next(iter(prompts.part.prompts("test")))
    assert (first.messages[0].role == "system") == system


def test_a_gemma_target_is_asked_as_gemma_is(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model", "gemma2")
    tree = {"name": "g", "target": {"model": str(model)}, "evaluate": {"benchmarks": [SUMS]}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    planned = plan(fusechat.load_recipe(tmp_path / "recipe.yaml"))
    (prompts,) = planned["evaluate/sums/prompts"].settings.values()
    assert prompts.part.family == "gemma"

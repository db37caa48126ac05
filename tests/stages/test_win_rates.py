"""The graded side of evaluation: scores of a task become win rates against one model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.stages.evaluated import World

from fusechat.errors import PartError, RecipeError
from fusechat.files import read_json
from fusechat.metrics.text import format_table
from fusechat.planner import plan
from fusechat.recipe import load_recipe
from fusechat.records import Response
from fusechat.runner import run
from fusechat.stages.evaluate import EvaluateSettings
from fusechat.stages.evaluate_items import ItemResult
from fusechat.stages.evaluate_settings import WinRate
from fusechat.tables import read_table

HALF = {"value": 0.5, "low": 0.5, "high": 0.5}


def sigma(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.win_rates["advice"] = WinRate(scale=2.0)
    return made


def test_each_items_value_is_the_probability_that_it_beats_the_bases_answer(world: World) -> None:
    world.answers("advice", "target", [1.0, 3.0, -2.0])
    world.answers("advice", "train.sft", [5.0, 3.0, -4.0], text="fourteen chars")
    _, metrics = world.compare()
    task = metrics["tasks"]["advice"]
    assert (task["metric"], task["against"], task["scale"]) == ("win_rate", "target", 2.0)
    found = task["models"]["train.sft"]
    assert found["accuracy"] == pytest.approx((sigma(2) + 0.5 + sigma(-1)) / 3)
    assert found["low"] < found["accuracy"] < found["high"]
    assert found["mean_score"] == pytest.approx(4 / 3)
    items = [item for item in world.items() if item.model == "train.sft"]
    assert [item.value for item in items] == pytest.approx([sigma(2), 0.5, sigma(-1)])
    assert [item.score for item in items] == [5.0, 3.0, -4.0]
    assert found["length_controlled"]["value"] is None  # four characters longer everywhere
    assert "told apart" in found["length_controlled"]["value_missing"]
    text = format_table(metrics, 200)
    assert "advice, SFT: no reading at equal lengths: the responses differ in length" in text


def test_without_a_scale_the_higher_score_wins(world: World) -> None:
    world.win_rates["advice"] = WinRate()
    world.answers("advice", "target", [1.0, 3.0, -2.0, 0.0])
    world.answers("advice", "train.sft", [1.1, 3.0, -4.0, 0.5])
    _, metrics = world.compare()
    found = metrics["tasks"]["advice"]["models"]["train.sft"]
    assert found["accuracy"] == 0.625
    assert found["length_controlled"]["value"] == pytest.approx(0.625)  # equal lengths
    assert "Wilson" in metrics["method"]
    assert "length-controlled" in metrics["method"]


def test_the_model_held_against_has_one_half_by_meaning_and_enters_the_average_so(
    world: World,
) -> None:
    world.answers("gsm", "target", [1.0, 0.0, 0.0, 0.0])
    world.answers("gsm", "train.sft", [1.0, 1.0, 1.0, 0.0])
    world.answers("advice", "target", [1.0, "cut", 2.0, "crash"])
    world.answers("advice", "train.sft", [9e9, 9e9, 9e9, 9e9])
    _, metrics = world.compare()
    own = metrics["tasks"]["advice"]["models"]["target"]
    assert (own["accuracy"], own["low"], own["high"], own["accuracy_strict"]) == (0.5,) * 4
    assert {key: own["length_controlled"][key] for key in HALF} == HALF
    assert own["mean_score"] == 1.5
    averages = metrics["average"]["models"]
    assert averages["target"]["accuracy"] == pytest.approx((0.25 + 0.5) / 2)
    assert averages["train.sft"]["accuracy"] == pytest.approx((0.75 + 1.0) / 2)
    assert metrics["tasks"]["gsm"]["metric"] == "accuracy"
    assert "mean_score" not in metrics["tasks"]["gsm"]["models"]["target"]


def test_a_cut_response_has_lost_and_an_opponent_that_was_cut_is_beaten_strictly(
    world: World,
) -> None:
    world.answers("advice", "target", [1.0, "cut", "empty", "no gold", "crash", 1.0])
    world.answers("advice", "train.sft", ["cut", 1.0, "cut", 1.0, 1.0, 1.0])
    counts, metrics = world.compare()
    found = metrics["tasks"]["advice"]["models"]["train.sft"]
    assert (found["accuracy"], found["scored"]) == (0.5, 1)
    assert found["accuracy_strict"] == pytest.approx((0 + 1 + 0.5) / 3)
    assert (found["cut"], found["unopposed"], found["errors"]) == (1, 1, 1)
    assert found["scored"] + found["unscorable"] + found["errors"] == found["expected"] == 6
    assert found["reasons"] == {
        "the response was cut at the token limit": 1,
        "base: the response was cut at the token limit": 1,
        "neither response is whole": 1,
        "base: not whole: no gold": 1,
        "base: crashed": 1,
    }
    assert counts["unopposed"] == 1


def test_differences_are_of_win_rates_item_by_item(world: World) -> None:
    world.answers("advice", "target", [0.0, 0.0, "cut"])
    world.answers("advice", "train.sft", [2.0, -2.0, 1.0])
    world.answers("advice", "train.dpo", [2.0, 2.0, "empty"])
    _, metrics = world.compare()
    found = {(d["model"], d["against"]): d for d in metrics["tasks"]["advice"]["differences"]}
    over_base = found["train.sft", "target"]
    assert over_base["difference"] == pytest.approx((sigma(1) + sigma(-1) + 1.0) / 3 - 0.5)
    assert over_base["n"] == 3
    over_sft = found["train.dpo", "train.sft"]
    assert over_sft["difference"] == pytest.approx((0 + sigma(1) - sigma(-1)) / 2)
    assert over_sft["n"] == 2  # of the third, neither DPO's nor the base's answer is whole


def test_a_missing_opponent_is_an_error_that_names_it(world: World) -> None:
    world.answers("advice", "train.sft", [2.0])
    with pytest.raises(PartError, match="win rate against 'target', which did not answer"):
        world.compare()


def test_only_a_win_rate_may_have_scores_beyond_zero_and_one(world: World) -> None:
    world.answers("gsm", "target", [-0.5])
    with pytest.raises(PartError, match=r"holds the score -0\.5.*win_rate: \{against: target\}"):
        world.compare()


def test_an_item_of_an_older_table_still_reads() -> None:
    row = {"task": "t", "model": "m", "prompt_id": "p", "outcome": "scored", "value": 1.0}
    assert ItemResult.model_validate(row).score is None


def test_the_terminal_says_which_rows_are_win_rates_and_against_whom(world: World) -> None:
    world.answers("gsm", "target", [1.0, 0.0] * 8)
    world.answers("gsm", "train.sft", [1.0, 1.0] * 8)
    world.answers("advice", "target", [1.0] * 16)
    world.answers("advice", "train.sft", [2.0, 3.5] * 8)
    _, metrics = world.compare()
    for width in (60, 80, 120):
        lines = format_table(metrics, width).splitlines()
        assert max(map(len, lines)) <= width
        heads = [line.split("  ")[0] for line in lines]
        start = heads.index("accuracy, %")
        assert heads[start + 2 : start + 5] == ["gsm", "win rate against base, %", "advice"]
        assert [line.split()[:2] for line in lines[start + 5 : start + 8]] == [
            ["equal", "lengths"], ["mean", "score"], ["mean", "tokens"]
        ]  # fmt: skip
        assert heads[start + 8] == "average of all"
        assert lines[start + 4].split()[:3] == ["advice", "16", "50.0"]
        assert lines[start + 6].split()[-2:] == ["1.00", "2.75"]


# The recipe.

RECIPE = """
name: graded
prompts:
  hello: {{use: files, path: hello.jsonl, domain: chat}}
sources:
  plain: {{use: 'graded_parts:Adviser', text: Do it now.}}
  kind: {{use: 'graded_parts:Adviser', text: Please do it now., temperature: 0.9}}
evaluate:
  models: [plain, kind]
  max_new_tokens: 50
  tasks: [{task}]
"""


def recipe(folder: Path, task: str) -> Path:
    (folder / "hello.jsonl").write_text('{"prompt": "Hello?"}\n')
    text = RECIPE.format(task=task)
    path = folder / "graded.yaml"
    path.write_text(text)
    return path


def test_a_task_is_compared_as_it_says_and_sampled_as_the_recipe_says_for_it(
    tmp_path: Path,
) -> None:
    path = recipe(tmp_path, "{use: 'graded_parts:Advice', temperature: 0.25, max_new_tokens: 9}")
    result = run(load_recipe(path), tmp_path / "ws")
    metrics = read_json(result["evaluate/compare"].folder / "metrics.json")
    task = metrics["tasks"]["Advice"]
    assert (task["against"], task["scale"]) == ("plain", 1.0)
    assert task["models"]["kind"]["accuracy"] == pytest.approx(sigma(2))
    assert task["models"]["kind"]["mean_score"] == 2.0
    assert task["models"]["plain"]["accuracy"] == 0.5
    answers = read_table(result["evaluate/Advice/kind/sample"].folder / "data", Response)
    assert {answer.text for answer in answers} == {"Please do it now. T=0.25"}


def test_a_task_cut_short_by_its_own_limit_has_lost(tmp_path: Path) -> None:
    path = recipe(tmp_path, "{use: 'graded_parts:Advice', max_new_tokens: 4}")
    result = run(load_recipe(path), tmp_path / "ws")
    found = read_json(result["evaluate/compare"].folder / "metrics.json")["tasks"]["Advice"][
        "models"
    ]
    assert (found["kind"]["accuracy"], found["kind"]["accuracy_strict"]) == (None, 0.0)
    assert found["kind"]["cut"] == 4


def test_what_the_recipe_says_of_the_comparison_goes_before_what_the_task_says(
    tmp_path: Path,
) -> None:
    path = recipe(tmp_path, "{use: 'graded_parts:Advice', win_rate: {against: kind}}")
    settings: Any = plan(load_recipe(path), tmp_path)["evaluate/compare"].settings
    assert settings["win_rates"] == {"Advice": WinRate(against="kind", scale=None)}
    path = recipe(tmp_path, "{use: 'graded_parts:Advice', win_rate: null}")
    assert "win_rates" not in plan(load_recipe(path), tmp_path)["evaluate/compare"].settings


def test_a_setting_of_a_task_alone_makes_new_keys_for_that_task_alone(tmp_path: Path) -> None:
    same = "{use: 'graded_parts:Advice', name: a}"
    keys = []
    for other in ("", ", temperature: 0.1", ", temperature: 0.0"):
        tasks = f"{same}, {{use: 'graded_parts:Advice', name: b{other}}}"
        planned = plan(load_recipe(recipe(tmp_path, tasks)), tmp_path)
        keys.append({unit.name: unit.key for unit in planned.units})
    plain, warm, said = keys
    assert said == plain
    changed = {name for name in plain if plain[name] != warm[name]}
    assert changed == {
        "evaluate/b/plain/sample", "evaluate/b/plain/annotate", "evaluate/b/kind/sample",
        "evaluate/b/kind/annotate", "evaluate/compare",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("{use: 'graded_parts:Advice', win_rate: {against: plian}}", "Did you mean 'plain'?"),
        ("{use: 'graded_parts:Advice', win_rate: {scale: 1}}", "no model 'target'"),
        ("{use: 'graded_parts:Advice', against: target}", "no model 'target' to hold the others"),
        ("{use: 'graded_parts:Advice', win_rate: {scale: 0}}", "greater than 0"),
        ("{use: 'graded_parts:Advice', win_rate: {agianst: kind}}", "agianst"),
        ("{use: 'graded_parts:Advice', temperature: -1}", "greater than or equal to 0"),
    ],
)
def test_a_comparison_with_nobody_is_a_fault_before_anything_runs(
    tmp_path: Path, task: str, words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(recipe(tmp_path, task))


def test_a_tasks_own_wrong_comparison_is_told_as_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import graded_parts

    monkeypatch.setattr(graded_parts.Advice, "compared", lambda self: {"against": "kind", "by": 1})
    with pytest.raises(RecipeError, match=r"compared\(\) is wrong at 'by'"):
        load_recipe(recipe(tmp_path, "{use: 'graded_parts:Advice'}"))


def test_sampling_is_the_sections_where_a_task_says_nothing() -> None:
    made = EvaluateSettings.model_validate(
        {"tasks": ["graded_parts:Advice"], "max_new_tokens": 7, "temperature": 0.3}
    )
    assert made.sampling(made.tasks[0]) == {"temperature": 0.3, "max_new_tokens": 7}
    with pytest.raises(ValidationError):
        EvaluateSettings.model_validate(
            {"tasks": [{"use": "graded_parts:Advice", "max_new_tokens": 0}]}
        )

"""What benchmarks and their judges would take, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import fusechat
from fusechat.forecast.costs import forecast
from fusechat.forecast.evaluation import evaluation_lines
from fusechat.forecast.terminal import table
from fusechat.planner import plan
from fusechat.recipe import Cluster

TALK = {"use": "judged_parts:Talk", "name": "talk"}
MODELS = {
    "base": {"use": "judged_parts:Speaker", "text": "a"},
    "fused": {"use": "judged_parts:Speaker", "text": "aa"},
}


def planned(folder: Path, **evaluate: Any) -> Any:
    path = folder / "recipe.yaml"
    judge = {"use": "judged_parts:Referee"}
    settings = {"models": MODELS, "benchmarks": [TALK], "judge": judge} | evaluate
    path.write_text(yaml.safe_dump({"name": "cost", "evaluate": settings}))
    return plan(fusechat.load_recipe(path), folder / "workspace")


PRICES = Cluster.model_validate({"units": {"judge": {"price": {"prompt": 10.0, "response": 30.0}}}})


def test_requests_and_judgments_are_counted_over_models_turns_and_games(tmp_path: Path) -> None:
    """3 prompts, one of two turns: 4 answers a model, 2 games each."""
    answers, judge = evaluation_lines(planned(tmp_path), PRICES)
    assert (answers.what, answers.requests, answers.to_do) == ("talk", 8, 8)
    assert (judge.what, judge.requests) == ("judge of talk", 16)
    assert answers.response_tokens == 8 * 500
    # The paper's judge is bounded at 2,048 tokens; 400 are assumed.
    assert judge.response_tokens == 16 * 400
    assert answers.cost is None
    assert judge.cost == (judge.prompt_tokens * 10 + judge.response_tokens * 30) / 1e6


def test_what_is_there_is_not_paid_again(tmp_path: Path) -> None:
    before = planned(tmp_path)
    fusechat.run(before.recipe, tmp_path / "workspace")
    lines = evaluation_lines(planned(tmp_path), PRICES)
    assert [line.to_do for line in lines] == [0, 0]
    assert [line.cost for line in lines] == [None, 0.0]


def test_take_bounds_what_is_asked(tmp_path: Path) -> None:
    answers, _ = evaluation_lines(planned(tmp_path, take=2), PRICES)
    assert answers.requests == 2 * round(4 * 2 / 3)


def test_a_recipe_that_only_evaluates_has_a_forecast(tmp_path: Path) -> None:
    told = table(forecast(planned(tmp_path), PRICES))
    assert "benchmark judge of talk: 16 of 16 requests to do" in told
    assert "benchmarks together: cost" in told

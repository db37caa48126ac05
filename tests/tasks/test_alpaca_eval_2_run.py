"""AlpacaEval 2.0 through a whole run, with a judge that tells log-probabilities or only a word."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

import fusechat
from alpaca_cases import judgments, write_files
from endpoint_stub import Body, Stub, serving
from fusechat.files import read_json
from fusechat.records import Response, Score
from fusechat.results import RunResult
from fusechat.tables import read_table

GOOD = {"use": "alpaca_cases:Fixed", "text": "good words"}
BAD = {"use": "alpaca_cases:Fixed", "text": "bad words"}
ONE_WORD = {"use": "alpaca_cases:OneWord"}


def ran(folder: Path, judge: dict[str, Any], **changes: Any) -> RunResult:
    evaluate = {
        "benchmarks": [{"use": "alpaca_eval_2", **changes.pop("settings", {})}],
        "data_dir": str(write_files(folder / "data")),
        "judge": judge, "models": {"good": GOOD} | changes,
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "alpaca", "evaluate": evaluate}))
    recipe = fusechat.load_recipe(path).model_copy(update={"max_error_share": 1.0})
    return fusechat.run(recipe, folder / "workspace")


def row_of(result: RunResult) -> dict[str, Any]:
    rows = read_json(result["evaluate/compare"].folder / "benchmarks.json")["rows"]
    found: dict[str, Any] = next(row for row in rows if row.get("name") == "alpaca_eval_2")
    return found


def scores_of(result: RunResult, model: str) -> list[Score]:
    folder = result[f"evaluate/alpaca_eval_2/{model}/annotate"].folder
    return list(read_table(folder / "data", Score))


def test_preferences_are_weighted_by_the_judges_probabilities(tmp_path: Path) -> None:
    result = ran(tmp_path, ONE_WORD, bad=BAD)
    assert [score.value for score in scores_of(result, "good")] == [pytest.approx(0.9)] * 6
    # The judge prefers neither of `bad` and `Base`: it names the second, whoever stands there.
    seen = [
        (json.loads(score.details or "")["shown_first"], score.value)
        for score in scores_of(result, "bad")
    ]
    assert {first for first, _ in seen} == {True, False}
    assert all(value == pytest.approx(0.1 if first else 0.9) for first, value in seen)
    asked = result["evaluate/alpaca_eval_2/good/judge/sample"].folder
    (first, *_) = read_table(asked / "data", Response)
    assert set(json.loads(first.details or "")["top_logprobs"]) == {"m", "M"}
    cells = row_of(result)["models"]
    extras = cells["good"]["extras"]
    assert extras["win_rate"] == pytest.approx(90.0)
    assert (extras["read_from_logprobs"], extras["read_from_text"]) == (6, 0)
    assert cells["good"]["score"] > cells["bad"]["score"]


def test_without_probabilities_the_word_counts_and_it_is_told(tmp_path: Path) -> None:
    result = ran(tmp_path, ONE_WORD | {"mute": True})
    assert [score.value for score in scores_of(result, "good")] == [1.0] * 6
    extras = row_of(result)["models"]["good"]["extras"]
    assert (extras["read_from_logprobs"], extras["read_from_text"]) == (0, 6)


def test_an_item_of_which_the_judge_says_nothing_is_no_half_win(tmp_path: Path) -> None:
    result = ran(tmp_path, ONE_WORD | {"dumb": ["me of 2."]})
    scores = scores_of(result, "good")
    assert [score.status for score in scores] == ["ok", "ok", "error", "ok", "ok", "ok"]
    assert scores[2].reason.startswith("the judge's answer is off the format")
    assert row_of(result)["models"]["good"]["extras"]["win_rate"] == pytest.approx(90.0)


def test_a_judge_behind_a_server_is_asked_for_one_token_and_its_likeliest(tmp_path: Path) -> None:
    def script(number: int, body: Body) -> Body:
        first = body["messages"][1]["content"].partition("\nm: ")[2].startswith("good")
        odds = {"m": 0.6, "M": 0.2, "It": 0.2} if first else {"m": 0.2, "M": 0.6, "It": 0.2}
        likely = [{"token": token, "logprob": math.log(p)} for token, p in odds.items()]
        told = {"content": [{"token": "It", "logprob": math.log(0.2), "top_logprobs": likely}]}
        message = {"role": "assistant", "content": "It"}
        choice = {"index": 0, "finish_reason": "length", "message": message, "logprobs": told}
        return {"fields": {"choices": [choice], "model": "gpt-4-1106-preview"}}

    with serving(stub := Stub(script)) as (url,):
        judge = {"use": "endpoint", "model": "gpt-4-1106-preview", "base_url": url}
        result = ran(tmp_path, judge)
    assert len(stub.seen) == 6
    wanted = {"max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "logprobs": True}
    assert {name: stub.seen[0].get(name) for name in wanted} == wanted
    assert stub.seen[0]["top_logprobs"] == 5
    assert [score.value for score in scores_of(result, "good")] == [pytest.approx(0.75)] * 6
    assert row_of(result)["models"]["good"]["extras"]["read_from_logprobs"] == 6


def test_published_judgments_of_the_same_outputs_are_held_against_the_judges(
    tmp_path: Path,
) -> None:
    path = judgments(
        tmp_path / "published.json", [1.9, 1.8, 1.2, 1.7, 1.1, None], output_2="good words\n"
    )
    stored = {
        "use": "given", "path": str(path), "prompt": "instruction", "responses": "output_2",
        "model": "published",
    }  # fmt: skip
    result = ran(tmp_path, ONE_WORD, settings={"judged_before": str(path)}, published=stored)
    cells = row_of(result)["models"]
    told = cells["published"]["extras"]["agreement_with_published"]
    # Ours prefers the output of all; the published judge prefers it in 3 of the 5 it judged.
    assert (told["n"], told["agreement"]) == (5, 0.6)
    assert told["mean_published"] == pytest.approx((0.9 + 0.8 + 0.2 + 0.7 + 0.1) / 5)
    # A model whose answers happen to be the published ones is compared, too.
    assert cells["good"]["extras"]["agreement_with_published"] == told


def test_published_judgments_that_cannot_be_read_are_a_fault_before_anything_runs(
    tmp_path: Path,
) -> None:
    path = judgments(tmp_path / "published.json", [7.0])
    with pytest.raises(fusechat.FusechatError, match="its preference is 7"):
        ran(tmp_path, ONE_WORD, settings={"judged_before": str(path)})

"""Arena-Hard, MT-Bench and AlignBench through a whole run: real items, a scripted judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import fusechat
from chat_cases import ARENA_JUDGE
from fusechat.files import read_json
from fusechat.records import Prompt, Response, Score
from fusechat.results import RunResult
from fusechat.stages.evaluate_items import ItemResult
from fusechat.tables import read_table

JUDGE = {"use": "fusechat.miniature.judge:ScriptedJudge"}
RICH = " ".join(f"word{number}" for number in range(100))
TAKE = 6


def ran(folder: Path, data: Path, **judge: Any) -> RunResult:
    folder.mkdir(exist_ok=True)
    evaluate = {
        "benchmarks": ["arena_hard", "mt_bench", "align_bench"], "data_dir": str(data),
        "take": TAKE, "judge": JUDGE | judge,
        "models": {
            "poor": {"use": "judged_parts:Speaker", "text": "So so."},
            "rich": {"use": "judged_parts:Speaker", "text": RICH},
        },
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "chat", "evaluate": evaluate}))
    recipe = fusechat.load_recipe(path).model_copy(update={"max_error_share": 1.0})
    return fusechat.run(recipe, folder / "workspace")


@pytest.fixture
def data(shared_data: Path, tmp_path: Path) -> Path:
    """The real files with a judge prompt of Arena-Hard's layout."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "judge").symlink_to(shared_data / "judge", target_is_directory=True)
    (folder / "arena_hard_judge_config.yaml").write_text(ARENA_JUDGE)
    return folder


def table_of(result: RunResult) -> dict[str, Any]:
    rows = read_json(result["evaluate/compare"].folder / "benchmarks.json")["rows"]
    return {row["name"]: row for row in rows if row.get("models")}


def test_the_three_rows_run_on_real_items_and_tell_a_rich_model_from_a_poor_one(
    tmp_path: Path, data: Path
) -> None:
    result = ran(tmp_path / "run", data)
    found = {
        name: {model: cell["score"] for model, cell in row["models"].items()}
        for name, row in table_of(result).items()
    }
    assert set(found) == {"arena_hard", "mt_bench", "align_bench"}
    # A rating is 1 + 9 * (different words) / 80: 10 of the 100 words, 2 of a handful.
    assert found["mt_bench"] == pytest.approx({"poor": 2.0, "rich": 10.0})
    assert found["align_bench"] == pytest.approx({"poor": 2.0, "rich": 10.0})
    assert found["arena_hard"]["poor"] == 0.0
    assert found["arena_hard"]["rich"] > 50.0
    rich = table_of(result)["arena_hard"]["models"]["rich"]["extras"]
    assert sum(rich["games"].values()) == 2 * TAKE


def test_the_second_turn_is_judged_with_the_whole_conversation(tmp_path: Path, data: Path) -> None:
    result = ran(tmp_path / "run", data)
    asked = read_table(result["evaluate/mt_bench/rich/judge/prompts"].folder / "prompts", Prompt)
    told = [prompt.messages[1].content for prompt in asked]
    both = [text for text in told if "### Assistant A:" in text]
    assert len(told) == 2 * TAKE
    assert len(both) == TAKE
    assert all(text.count("word0 word1") == 2 for text in both)
    items = read_table(result["evaluate/compare"].folder / "items", ItemResult)
    turns = [i.turn for i in items if (i.task, i.model) == ("mt_bench", "rich")]
    assert turns == [1, 2] * TAKE


def test_answers_off_the_format_are_asked_for_again_then_counted_and_never_a_tie(
    tmp_path: Path, data: Path
) -> None:
    result = ran(tmp_path / "run", data, off_format=0.5, failed=0.1)
    top = "evaluate/arena_hard/rich"
    scores = list(read_table(result[f"{top}/annotate"].folder / "data", Score))
    again = read_table(result[f"{top}/judge/again/sample"].folder / "data", Response)
    assert list(again)
    lost = [score for score in scores if score.status == "error"]
    assert 0 < len(lost) < TAKE
    assert {score.reason for score in lost} <= {
        "the judge's answer is off the format", "the judge gave no answer",
    }  # fmt: skip
    kept = [json.loads(score.details or "") for score in scores if score.status == "ok"]
    assert all(set(one["verdicts"]) == {"1", "2"} for one in kept)
    cell = table_of(result)["arena_hard"]["models"]["rich"]
    assert cell["n"] == len(kept)
    assert cell["judge_failed"] == len(lost)

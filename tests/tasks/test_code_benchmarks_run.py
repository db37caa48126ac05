"""HumanEval and LiveCodeBench through the plan: begun answers, samples, rows skipped or partial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.live_code_made import RIGHT_SUM, doubled, fenced, sum_of_line, written
from tests.tiny_models import tiny_model

import fusechat
from fusechat.files import read_json
from fusechat.records import Prompt, Response, Score
from fusechat.results import RunResult
from fusechat.tables import read_table

RIGHT = "def add(a, b):\n    return a + b\n"


def tasks(folder: Path) -> str:
    """Three tasks of EvalPlus's layout, of which one is to add."""
    rows = [
        {
            "task_id": f"HumanEval/{number}", "entry_point": name, "atol": 0,
            "prompt": f'def {name}(a, b):\n    """{name} them."""\n', "base_input": [[7, 2]],
            "canonical_solution": f"    return a {sign} b\n", "plus_input": [[1, 1]],
        }
        for number, (name, sign) in enumerate((("add", "+"), ("subtract", "-"), ("join", "|")))
    ]  # fmt: skip
    (folder / "HumanEvalPlus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def speaker(text: str, begins: bool = True) -> dict[str, Any]:
    return {"use": "judged_parts:Speaker", "plain": True, "text": text, "begins": begins}


def ran(folder: Path, **asked: Any) -> RunResult:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "code", "evaluate": asked}))
    return fusechat.run(fusechat.load_recipe(path), folder / "workspace")


def rows(run: RunResult) -> dict[str, dict[str, Any]]:
    table = read_json(run["evaluate/compare"].folder / "benchmarks.json")
    return {row["name"]: row for row in table["rows"] if row.get("name")}


def test_begun_answers_are_graded_from_where_they_go_on(tmp_path: Path) -> None:
    models = {"base": speaker("pass\n```\nEnd"), "fused": speaker(f"{RIGHT}```\nSample")}
    run = ran(tmp_path, data_dir=tasks(tmp_path), benchmarks=["humaneval"], models=models)
    prompts = list(read_table(run["evaluate/humaneval/prompts"].folder / "prompts", Prompt))
    assert {prompt.messages[-1].role for prompt in prompts} == {"assistant"}
    found = {}
    for model in models:
        for unit in ("annotate", "annotate@paper"):
            folder = run[f"evaluate/humaneval/{model}/{unit}"].folder / "data"
            scores = list(read_table(folder, Score))
            found[model, unit] = sorted(score.value or 0.0 for score in scores)
            assert {score.status for score in scores} == {"ok"}
    assert found == {
        ("base", "annotate"): [0.0, 0.0, 0.0],
        ("base", "annotate@paper"): [0.0, 0.0, 0.0],
        ("fused", "annotate"): [0.0, 0.0, 1.0],
        ("fused", "annotate@paper"): [0.0, 0.0, 1.0],
    }
    row = rows(run)["humaneval"]
    assert row["models"]["fused"]["score"] == pytest.approx(100 / 3)
    assert not any("begun" in note for note in row["notes"])
    assert row["models"]["fused"]["extras"]["plus"] == pytest.approx(100 / 3, abs=1e-3)


def test_a_model_that_cannot_go_on_has_the_whole_row_asked_without_a_beginning(
    tmp_path: Path,
) -> None:
    models = {"base": speaker(fenced(RIGHT), begins=False), "fused": speaker("x")}
    run = ran(tmp_path, data_dir=tasks(tmp_path), benchmarks=["humaneval"], models=models)
    prompts = list(read_table(run["evaluate/humaneval/prompts"].folder / "prompts", Prompt))
    assert {prompt.messages[-1].role for prompt in prompts} == {"user"}
    row = rows(run)["humaneval"]
    assert row["models"]["base"]["score"] == pytest.approx(100 / 3)
    assert "begun" in str(row)


@pytest.mark.slow
def test_a_real_model_goes_on_with_the_beginning_and_stops_at_the_fence(
    shared_data: Path, tmp_path: Path
) -> None:
    model = {"use": "hf", "model": str(tiny_model(tmp_path / "llama", "llama")),
             "dtype": "float32", "context": 1024}  # fmt: skip
    run = ran(
        tmp_path, data_dir=str(shared_data), take=2, max_new_tokens=16,
        benchmarks=["humaneval", "live_code_bench"], models={"base": model},
    )  # fmt: skip
    answers = list(read_table(run["evaluate/humaneval/base/sample"].folder / "data", Response))
    assert len(answers) == 2
    assert {answer.finish for answer in answers} <= {"stop", "length"}
    row = rows(run)["live_code_bench"]
    assert row["status"] == "skipped"
    assert "hidden tests" in row["reason"]


def test_live_code_bench_is_the_mean_of_ten_samples_and_partial_where_files_are_missing(
    tmp_path: Path,
) -> None:
    written(tmp_path, 4, sum_of_line(), doubled())
    run = ran(
        tmp_path, data_dir=str(tmp_path), benchmarks=["live_code_bench"],
        models={"base": speaker(fenced(RIGHT_SUM))},
    )  # fmt: skip
    top = "evaluate/live_code_bench/base"
    assert len(list(read_table(run[f"{top}/sample"].folder / "data", Response))) == 20
    scores = list(read_table(run[f"{top}/annotate"].folder / "data", Score))
    assert sorted(score.value or 0.0 for score in scores) == [0.0] * 10 + [1.0] * 10
    row = rows(run)["live_code_bench"]
    assert row["status"] == "partial"
    assert row["models"]["base"]["score"] == 50.0
    assert "2024-06-30" in json.dumps(row)


def test_the_settings_of_a_row_do_not_depend_on_where_the_files_are(tmp_path: Path) -> None:
    hashes = []
    for name in ("one", "two"):
        folder = tmp_path / name
        written(folder, 4, sum_of_line())
        run = ran(
            folder, data_dir=str(folder), benchmarks=["live_code_bench"],
            models={"base": speaker("x")},
        )  # fmt: skip
        hashes.append(rows(run)["live_code_bench"]["settings"])
    assert hashes[0] == hashes[1]

"""Multiple choice through the plan: both profiles side by side, partial and skipped rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import fusechat
from fusechat.cli import main
from fusechat.files import read_json
from fusechat.records import Score
from fusechat.results import RunResult
from fusechat.tables import read_table

TRAP = "The answer is A if it is cold. So the best answer is C."


@pytest.fixture(scope="module")
def run(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Two models of one sentence each on six real items of each row; there is no GPQA."""
    folder = tmp_path_factory.mktemp("choice")
    speaker = {"use": "judged_parts:Speaker", "plain": True}
    recipe = {
        "name": "choice",
        "evaluate": {
            "data_dir": str(shared_data), "take": 6,
            "benchmarks": ["mmlu_pro", "mmlu_redux", "gpqa_diamond", "mmlu"],
            "models": {"base": speaker | {"text": TRAP}, "fused": speaker | {"text": "Who knows"}},
        },
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return fusechat.run(fusechat.load_recipe(path), folder / "workspace")


def scores(run: RunResult, unit: str) -> list[Score]:
    return list(read_table(run[unit].folder / "data", Score))


def rows(run: RunResult) -> dict[str, dict[str, Any]]:
    table = read_json(run["evaluate/compare"].folder / "benchmarks.json")
    return {row["name"]: row for row in table["rows"] if row.get("name")}


def read(score: Score) -> Any:
    return json.loads(score.details or "")["answer"]


def test_both_profiles_read_the_same_answers_in_their_own_way(run: RunResult) -> None:
    paper = scores(run, "evaluate/mmlu_pro/base/annotate@paper")
    robust = scores(run, "evaluate/mmlu_pro/base/annotate")
    assert [read(score) for score in paper] == ["A"] * 6
    assert [read(score) for score in robust] == ["C"] * 6


def test_answers_that_were_not_found_are_counted_guessed_or_not(run: RunResult) -> None:
    row = rows(run)["mmlu_pro"]
    counts = {row["profile"]: row["models"], row["other"]["profile"]: row["other"]["models"]}
    for profile in ("paper", "robust"):
        assert counts[profile]["base"]["parse_failed"] == 0
        assert counts[profile]["fused"]["parse_failed"] == 6
    assert counts["robust"]["fused"]["score"] == 0.0
    guesses = scores(run, "evaluate/mmlu_pro/fused/annotate@paper")
    assert {score.reason for score in guesses} == {"guessed"}


def test_a_benchmark_without_its_file_is_a_skipped_row_that_says_how_to_get_it(
    run: RunResult,
) -> None:
    row = rows(run)["gpqa_diamond"]
    assert row["status"] == "skipped"
    assert row["private"] is True
    assert "never fetched" in str(row)


def test_the_sample_of_redux_is_a_partial_row(run: RunResult) -> None:
    row = rows(run)["mmlu_redux"]
    assert row["status"] == "partial"
    assert row["reason"] == "The data are a part: 2,000 of 5,700 questions."
    assert "errors" in str(row["notes"])


def test_no_text_of_gpqa_stands_in_what_is_read_by_people(tmp_path: Path) -> None:
    """Neither its questions nor its options, in the report and in the files behind it."""
    options = {"Correct Answer": "xyzzy one", "Incorrect Answer 1": "xyzzy two"}
    options |= {"Incorrect Answer 2": "xyzzy three", "Incorrect Answer 3": "xyzzy four"}
    items = [options | {"Question": f"Which xyzzy {n}?", "Record ID": f"r{n}"} for n in range(4)]
    (tmp_path / "gpqa_diamond.jsonl").write_text("\n".join(map(json.dumps, items)))
    said = {"base": "The best answer is A.", "fused": "The best answer is C."}
    models = {
        name: {"use": "judged_parts:Speaker", "plain": True, "text": text}
        for name, text in said.items()
    }
    asked = {"data_dir": str(tmp_path), "benchmarks": ["gpqa_diamond"], "models": models}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "private", "evaluate": asked}))
    run = fusechat.run(fusechat.load_recipe(path), tmp_path / "workspace")
    assert rows(run)["gpqa_diamond"]["models"]["base"]["n"] == 4

    assert main(["report", str(path), "--workspace", str(tmp_path / "workspace")]) == 0
    kinds = (".html", ".json", ".md")
    read = [p for p in (tmp_path / "workspace").rglob("*") if p.name.endswith(kinds)]
    assert {"report.html", "benchmarks.json"} <= {p.name for p in read}
    assert [p.name for p in read if "xyzzy" in p.read_text(encoding="utf-8")] == []

"""Real input: GSM8K solutions of two real model sizes become preference pairs, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from fusechat.planner import plan
from fusechat.recipe import load_recipe
from fusechat.records import Pair, Prompt, Response, Score
from fusechat.runner import RunResult, run
from fusechat.tables import read_table

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "gsm8k-pool.yaml"
KINDS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


@pytest.fixture(scope="module")
def pool(shared_data: Path) -> Path:
    return shared_data / "pools" / "gsm8k_model_solutions.jsonl"


@pytest.fixture(scope="module")
def result(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    recipe = load_recipe(RECIPE, {"variables.pool": str(pool)})
    return run(recipe, tmp_path_factory.mktemp("pool"))


@pytest.fixture(scope="module")
def verdicts(result: RunResult) -> Mapping[tuple[str, str, int], Score]:
    """(question, source, index) -> the score."""
    questions = {p.id: p.messages[0].content for p in result["prompts"].rows("prompts")}
    by_id = {score.response_id: score for score in result["annotate/math"].rows()}
    return {
        (questions[r.prompt_id], r.source, r.index): by_id[r.id]
        for name in ("sample/gpt3_6b", "sample/gpt3_175b")
        for r in result[name].rows()
    }


def test_every_problem_and_solution_is_read(result: RunResult) -> None:
    assert result["prompts"].manifest["counts"]["prompts"] == 660
    prompt = next(result["prompts"].rows("prompts"))
    assert isinstance(prompt, Prompt)
    assert prompt.answer == "5"
    for name in ("sample/gpt3_6b", "sample/gpt3_175b"):
        assert result[name].manifest["counts"]["finish"] == {"unknown": 1320}


def test_verdicts_agree_with_the_files_own_labels_and_every_disagreement_has_a_reason(
    pool: Path, verdicts: Mapping[tuple[str, str, int], Score]
) -> None:
    """At least 99.5% of 2640; the rest are those that `docs/first-run.md` lists."""
    differ = []
    total = 0
    for line in pool.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for kind in KINDS:
            size, _, method = kind.partition("_")
            key = (row["question"], f"gpt3_{size}", 0 if method == "finetuning" else 1)
            score = verdicts[key]
            total += 1
            if score.value != float(row[kind]["is_correct"]):
                differ.append((kind, score))
    assert total == 2640
    assert len(differ) <= 0.005 * total
    assert all(score.reason for _, score in differ)


def test_the_number_of_pairs_is_what_an_independent_count_gives(
    result: RunResult, verdicts: Mapping[tuple[str, str, int], Score]
) -> None:
    """Count over the verdicts alone: a pair wherever one source is right once and wrong once."""
    by_question: dict[str, dict[str, set[float]]] = {}
    for (question, source, _), score in verdicts.items():
        if score.status == "ok":
            found = by_question.setdefault(question, {}).setdefault(source, set())
            found.add(score.value)  # type: ignore[arg-type]
    mixed = sum(any(v == {0.0, 1.0} for v in s.values()) for s in by_question.values())
    right = sum(any(1.0 in v for v in s.values()) for s in by_question.values())
    pairs = list(result["build"].rows("dpo"))
    assert len(pairs) == mixed
    assert len(list(result["build"].rows("sft"))) == right - mixed
    assert len(list(result["build"].rows("dropped"))) == 660 - right


def test_a_pair_holds_a_right_and_a_wrong_response_of_one_source(result: RunResult) -> None:
    scores = {score.response_id: score.value for score in result["annotate/math"].rows()}
    responses: dict[str, Response] = {
        r.id: r for s in ("gpt3_6b", "gpt3_175b") for r in result[f"sample/{s}"].rows()
    }
    for pair in read_table(result["build"].folder / "dpo", Pair):
        assert (scores[pair.chosen_id], scores[pair.rejected_id]) == (1.0, 0.0)
        assert responses[pair.chosen_id].source == responses[pair.rejected_id].source == pair.source
        assert responses[pair.chosen_id].text == pair.chosen


def test_a_second_run_has_nothing_to_do(result: RunResult) -> None:
    assert run(result.plan.recipe, result.plan.workspace).ran == ()
    found = plan(result.plan.recipe, result.plan.workspace).standings()
    assert {standing.state for standing in found.values()} == {"done"}

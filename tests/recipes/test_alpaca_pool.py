"""Real input: four models' responses to the 805 prompts of AlpacaEval, described as texts."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from fusechat.errors import RecipeError
from fusechat.files import read_json
from fusechat.metrics.words import words_of
from fusechat.recipe import load_recipe
from fusechat.runner import RunResult, run

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "alpaca-pool.yaml"
FILES = {
    "llama_70b": "Meta-Llama-3.1-70B-Instruct-Turbo",
    "qwen_72b": "Qwen2-72B-Instruct",
    "gemma_9b": "gemma-2-9b-it-DPO",
    "mistral_large": "mistral-large-2402",
}


@pytest.fixture(scope="module")
def pool(shared_data: Path) -> Path:
    return shared_data / "pools" / "alpaca_eval_outputs"


@pytest.fixture(scope="module")
def stored(pool: Path) -> Mapping[str, Mapping[str, str]]:
    """Source -> instruction -> output, read without our code."""
    return {
        source: {
            row["instruction"]: row["output"]
            for row in json.loads((pool / f"{name}.json").read_text(encoding="utf-8"))
        }
        for source, name in FILES.items()
    }


@pytest.fixture(scope="module")
def result(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    recipe = load_recipe(RECIPE, {"variables.folder": str(pool)})
    return run(recipe, tmp_path_factory.mktemp("alpaca"))


@pytest.fixture(scope="module")
def groups(result: RunResult) -> Mapping[str, Mapping[str, Any]]:
    texts = read_json(result["describe"].folder / "texts.json")
    return {group["source"]: group for group in texts["groups"]}


def test_the_recipe_says_that_the_folder_is_missing_and_how_to_give_it() -> None:
    """One fault, not one for each of the five files."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(RECIPE)
    (fault,) = caught.value.faults
    assert fault.key == "variables.folder"
    assert "--set variables.folder=" in str(fault)


def test_every_response_of_the_files_is_there_as_it_is(
    result: RunResult, stored: Mapping[str, Mapping[str, str]]
) -> None:
    asked = {p.id: p.messages[0].content for p in result["prompts"].rows("prompts")}
    assert len(asked) == 805
    for source, outputs in stored.items():
        found = {asked[r.prompt_id]: r.text for r in result[f"sample/{source}"].rows()}
        assert found == outputs


def test_lengths_and_bold_are_what_an_independent_count_gives(
    groups: Mapping[str, Mapping[str, Any]], stored: Mapping[str, Mapping[str, str]]
) -> None:
    assert list(groups) == list(FILES)
    for source, outputs in stored.items():
        lengths = [len(text) for text in outputs.values()]
        found = groups[source]["characters"]
        assert found["mean"] == pytest.approx(statistics.fmean(lengths), abs=0.001)
        assert found["median"] == statistics.median(lengths)
        starred = sum(text.count("**") >= 2 for text in outputs.values()) / len(outputs)
        assert groups[source]["bold"] == pytest.approx(starred, abs=0.02)
        spaced = statistics.median(len(text.split()) for text in outputs.values())
        assert groups[source]["words"]["median"] == pytest.approx(spaced, rel=0.1)


def test_equal_responses_are_what_an_independent_count_gives(
    result: RunResult, stored: Mapping[str, Mapping[str, str]]
) -> None:
    found = read_json(result["describe"].folder / "texts.json")["near_duplicates"]["responses"]
    equal = 0
    for prompt in stored["llama_70b"]:
        said = Counter(outputs[prompt] for outputs in stored.values())
        equal += sum(n * (n - 1) // 2 for n in said.values())
    assert found["equal"]["other_source"] == equal
    assert found["pairs"]["other_source"] >= equal
    assert found["uncompared"] == 0


def test_near_duplicates_are_what_sets_of_words_give_pair_by_pair(
    result: RunResult, stored: Mapping[str, Mapping[str, str]]
) -> None:
    """All pairs of responses to one prompt, and all pairs of prompts, by Python's sets."""
    found = read_json(result["describe"].folder / "texts.json")["near_duplicates"]
    pairs = 0
    for prompt in stored["llama_70b"]:
        said = [outputs[prompt] for outputs in stored.values()]
        pairs += sum(similar(one, two) for one, two in combinations(said, 2))
    assert found["responses"]["pairs"]["other_source"] == pairs
    prompts = {prompt: runs_of(prompt) for prompt in stored["llama_70b"]}
    assert found["prompts"]["pairs"] == sum(
        len(one & two) >= 0.8 * len(one | two) for one, two in combinations(prompts.values(), 2)
    )


def runs_of(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))} - {()}


def similar(one: str, two: str) -> bool:
    left, right = runs_of(one), runs_of(two)
    return one == two or (bool(left) and len(left & right) >= 0.8 * len(left | right))


def test_one_response_a_model_gives_no_pair_and_the_longest_goes_to_sft(
    result: RunResult, stored: Mapping[str, Mapping[str, str]]
) -> None:
    assert list(result["build"].rows("dpo")) == []
    rows = list(result["build"].rows("sft"))
    assert len(rows) == 805
    for row in rows:
        lengths = [len(outputs[row.messages[0].content]) for outputs in stored.values()]
        assert len(row.response) == max(lengths)
    funnel = read_json(result["build"].folder / "analysis.json")["domains"]["chat"]["funnel"]
    alone = {"gives": 0, "words": {"one usable": 805}}
    assert funnel["sources"]["dpo"] == dict.fromkeys(FILES, alone)


def test_a_prompt_that_a_file_has_not_is_counted(pool: Path, tmp_path: Path) -> None:
    for name in FILES.values():
        rows = json.loads((pool / f"{name}.json").read_text(encoding="utf-8"))[:5]
        kept = rows[:3] if name == FILES["gemma_9b"] else rows
        (tmp_path / f"{name}.json").write_text(json.dumps(kept), encoding="utf-8")
    done = run(load_recipe(RECIPE, {"variables.folder": str(tmp_path)}), tmp_path / "ws")
    missing = [row.reason for row in done["sample/gemma_9b"].rows("dropped")]
    assert missing == ["no stored response"] * 2
    assert len(list(done["sample/gemma_9b"].rows())) == 3
    assert len(list(done["build"].rows("sft"))) == 5

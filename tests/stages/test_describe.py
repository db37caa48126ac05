"""What a run says of its responses as texts: one small pool whose every number is known."""

from __future__ import annotations

import html
import json
import logging
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fusechat.errors import RecipeError
from fusechat.files import read_json
from fusechat.metrics.duplicate_counts import KINDS
from fusechat.metrics.texts_glossary import GLOSSARY
from fusechat.metrics.texts_table import format_texts
from fusechat.parts import Where
from fusechat.planner import plan
from fusechat.progress import quiet
from fusechat.recipe import Target, load_recipe
from fusechat.report.collect import collect
from fusechat.report.render import render
from fusechat.runner import Options, RunResult, run
from fusechat.stages.context import UnitContext
from fusechat.stages.describe import DescribeSettings, describe
from fusechat.stages.describe_pairs import NearDuplicate
from running import finish
from tiny_models import tiny_tokenizer

LONG = "the quick brown fox jumps over the lazy dog near the old river bank"
ASK = "please tell me in simple words how a bicycle stays upright while it is moving"
RECIPE = """name: texts
prompts:
  one: {use: files, path: one.jsonl, domain: chat}
  two: {use: files, path: two.jsonl, domain: chat}
sources:
  left: {use: given, path: left.jsonl, prompt: prompt, responses: response, finish: finish}
  right: {use: given, path: right.jsonl, prompt: prompt, responses: response}
describe: {near_duplicates: {threshold: 0.6}}
"""
PROMPTS = {"one": [ASK, ASK + " fast", "What is a fox?"], "two": ["Say nothing."]}
LEFT = [
    (ASK, f"{LONG}.", "stop"),
    (ASK, f"{LONG}.", "stop"),
    (ASK + " fast", f"{LONG}!", "stop"),
    ("What is a fox?", "A fox is", "length"),
    ("Say nothing.", " ", "stop"),
]
RIGHT = [
    (ASK, f"{LONG} today.", "stop"),
    (ASK + " fast", "I'm sorry, I cannot.", "stop"),
    ("What is a fox?", "**An animal.**", "stop"),
]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for name, prompts in PROMPTS.items():
        write(folder / f"{name}.jsonl", [{"prompt": prompt} for prompt in prompts])
    for name, rows in (("left", LEFT), ("right", RIGHT)):
        keys = ("prompt", "response", "finish")
        write(folder / f"{name}.jsonl", [dict(zip(keys, row, strict=True)) for row in rows])
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def result(recipe: Path) -> RunResult:
    return run(load_recipe(recipe), recipe.parent / "ws")


@pytest.fixture(scope="module")
def texts(result: RunResult) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_json(result["describe"].folder / "texts.json")
    return found


def group(texts: Mapping[str, Any], source: str, origin: str | None) -> Mapping[str, Any]:
    (found,) = (g for g in texts["groups"] if (g["source"], g["origin"]) == (source, origin))
    return found


def test_each_source_is_counted_over_all_prompt_sets_and_in_each(texts: Mapping[str, Any]) -> None:
    left = group(texts, "left", None)
    counts = [left[name] for name in ("responses", "failed", "empty", "cut")]
    assert counts == [5, 0, 1, 1]
    assert left["open_end"] == 1 / 4  # "A fox is"
    assert left["words"]["median"] == 14
    assert left["openings"] == [["the quick brown", 3 / 4]]
    assert group(texts, "left", "two")["empty"] == 1
    assert group(texts, "left", "two")["words"] is None
    right = group(texts, "right", "one")
    assert (right["responses"], right["refusals"], right["bold"]) == (3, 0.333333, 0.333333)
    assert [g["origin"] for g in texts["groups"]] == [None, None, "one", "two", "one"]


def test_near_duplicates_are_counted_by_hand(texts: Mapping[str, Any]) -> None:
    """The 14 words give 10 runs of five. `. today` adds one: 10/11 alike. The same words with
    another mark are alike at 1.0, and not equal. The first two are two samples of one text.
    Pairs: left 0 and 1; right 0 with both; left 2 with both of left and with right 0."""
    found = texts["near_duplicates"]
    responses = found["responses"]
    assert responses["pairs"] == {"same_source": 1, "other_source": 2, "other_prompt": 3}
    assert responses["equal"] == {"same_source": 1, "other_source": 0, "other_prompt": 0}
    assert (responses["compared"], responses["different"]) == (7, 6)
    assert responses["between"] == [{"source": "left", "other_source": "right", "pairs": 2}]
    assert responses["by_source"] == [
        {"source": "left", "compared": 4, "same_source": 2, "other_source": 2, "other_prompt": 3},
        {"source": "right", "compared": 3, "same_source": 0, "other_source": 1, "other_prompt": 1},
    ]
    prompts = found["prompts"]
    assert (prompts["compared"], prompts["pairs"], prompts["involved"]) == (4, 1, 2)


def test_the_table_has_each_pair_of_different_texts_once_and_each_further_copy(
    result: RunResult,
) -> None:
    rows = list(result["describe"].rows("near_duplicates"))
    assert all(isinstance(row, NearDuplicate) for row in rows)
    assert [(row.kind, row.jaccard, row.equal) for row in rows] == [
        ("same_source", 1.0, True),
        ("other_prompt", 1.0, False),
        ("other_source", 0.909091, False),
        ("other_prompt", 0.909091, False),
        ("prompts", 0.916667, False),
    ]
    responses = {r.id: r.text for s in ("left", "right") for r in result[f"sample/{s}"].rows()}
    assert responses[rows[0].response_id] == responses[rows[0].other_response_id]
    assert not (result["describe"].folder / "shingles.tmp").exists()


def test_pairs_to_read_are_of_different_texts_and_have_them(texts: Mapping[str, Any]) -> None:
    found = texts["near_duplicates"]["examples"]
    kinds = [pair["kind"] for pair in found]
    assert kinds == ["other_source", "other_prompt", "other_prompt", "prompts"]
    assert found[0]["texts"] == [f"{LONG}.", f"{LONG} today."]
    assert found[0]["prompt"] == ASK


def test_every_statistic_of_the_file_is_documented_where_it_is_shown(
    result: RunResult, texts: Mapping[str, Any]
) -> None:
    names = set(texts["groups"][0]) - {"source", "origin"}
    assert names | set(KINDS) == set(GLOSSARY)
    page = render(collect(result.folder, result.plan.workspace))
    section = page[page.index('<section id="texts"') :]
    for name, (title, means) in GLOSSARY.items():
        if name != "tokens":  # the recipe has no target
            assert f"<dt>{title}</dt>" in section
            assert means in html.unescape(section)


def test_the_page_shows_the_numbers_of_the_file(result: RunResult) -> None:
    page = render(collect(result.folder, result.plan.workspace))
    assert 'data-source="left" data-texts="empty">1</td>' in page
    assert 'data-source="right" data-texts="refusals">33.3%</td>' in page
    assert "2 by two sources to the same prompt (0 of them equal)" in page
    assert "Prompt set two" in page


def test_the_terminal_has_a_row_a_source(texts: Mapping[str, Any]) -> None:
    lines = format_texts(texts).splitlines()
    assert lines[1].split() == [
        "left", "5", "14", "0.0", "0.0", "0.0", "0.0", "25.0", "0.0", "50.0",
    ]  # fmt: skip
    assert lines[2].split()[-2:] == ["33.3", "33.3"]
    assert "2 pairs across sources, 1 of one source, 3 across prompts, 1 of prompts" in lines[-1]
    plain = format_texts({**texts, "near_duplicates": None}).splitlines()
    assert "alike" not in plain[0]


def test_the_unit_is_keyed_by_its_settings_and_stands_in_no_other_key(recipe: Path) -> None:
    before = {u.name: u.key for u in plan(load_recipe(recipe), recipe.parent / "ws").units}
    changed = load_recipe(recipe, {"describe.near_duplicates.shingle": 3})
    after = {u.name: u.key for u in plan(changed, recipe.parent / "ws").units}
    assert {name for name in before if before[name] != after[name]} == {"describe"}
    alone = load_recipe(recipe, {"describe": None})
    assert "describe" in {u.name for u in plan(alone, recipe.parent / "ws").units}


def test_without_near_duplicates_only_styles_are_told(recipe: Path, tmp_path: Path) -> None:
    changed = load_recipe(recipe, {"describe.near_duplicates": None})
    done = run(changed, tmp_path)
    assert read_json(done["describe"].folder / "texts.json")["near_duplicates"] is None
    assert list(done["describe"].rows("near_duplicates")) == []
    assert "Near-duplicates</h3>" not in render(collect(done.folder, done.plan.workspace))


def test_a_second_run_has_nothing_to_do(result: RunResult) -> None:
    assert run(result.plan.recipe, result.plan.workspace).ran == ()


def test_a_threshold_that_is_none_is_a_fault_with_its_line(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"describe.near_duplicates.threshold"):
        load_recipe(recipe, {"describe.near_duplicates.threshold": 1.5})


def test_a_kill_at_any_write_of_the_unit_leaves_what_the_next_run_makes_whole(
    recipe: Path, result: RunResult, tmp_path: Path
) -> None:
    run(load_recipe(recipe), tmp_path, options=Options(only="sample"))
    places = tmp_path / "places"
    code, out = finish(recipe, tmp_path, FUSECHAT_KILL_AT="*:10", FUSECHAT_FAULT_LOG=str(places))
    assert code == -signal.SIGKILL, out
    assert not list(tmp_path.glob("describe-*/manifest.json")), "killed too late to say anything"
    assert list(tmp_path.glob("describe-*/near_duplicates/*.parquet"))
    code, out = finish(recipe, tmp_path)
    assert code == 0, out
    (found,) = tmp_path.glob("describe-*")
    for name in ("texts.json", "near_duplicates/00000.parquet"):
        assert (found / name).read_bytes() == (result["describe"].folder / name).read_bytes()


def test_tokens_are_counted_by_the_targets_tokenizer(result: RunResult, tmp_path: Path) -> None:
    """The tokenizer of the target, the end-of-turn token included; a response without text has
    no tokens."""
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(str(tmp_path / "target"))
    inputs = {name: result[name].folder for name in ("prompts", "sample/left", "sample/right")}
    describe(
        UnitContext(
            name="describe",
            folder=tmp_path / "unit",
            inputs=inputs,
            settings={
                "describe": DescribeSettings(),
                "target": Target(model=str(tmp_path / "target")),
            },
            seed=0,
            where=Where(),
            progress=quiet(),
            log=logging.getLogger("test"),
        )
    )
    texts = read_json(tmp_path / "unit" / "texts.json")
    said = [text for _, text, _ in LEFT if text.strip()]
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 1 for text in said]
    assert group(texts, "left", None)["tokens"]["mean"] == sum(lengths) / len(lengths)
    assert group(texts, "left", "two")["tokens"] is None

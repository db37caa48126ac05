"""Keys of the shipped recipes' parts: who changes one on purpose changes this file with it.

A changed key means that nobody's finished rows are found again. If a part now means something
else, raise its `version`; if only a default was added that keeps the old meaning, the keys below
must not change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fusechat.planner import plan
from fusechat.recipe import Recipe, load_recipe, read_recipe
from fusechat.settings import settings_key

ROOT = Path(__file__).resolve().parent.parent


def test_the_plan_of_the_tiny_recipe_keeps_its_keys(tmp_path: Path) -> None:
    found = plan(load_recipe(ROOT / "recipes" / "tiny.yaml"), tmp_path)
    assert {unit.name: unit.key for unit in found.units} == GOLDEN


def test_the_mini_recipe_says_only_what_differs_from_the_defaults(tmp_path: Path) -> None:
    """What is hashed of a source, readable: model content aside, settings and counts."""
    recipe = load_recipe(ROOT / "recipes" / "mini.yaml")
    key: dict[str, Any] = settings_key(recipe.sources["gemma"])
    assert key["samples"].keys() == {"math", "code", "chat", "advice"}
    assert settings_key(recipe.sources["qwen"])["samples"].keys() == {*key["samples"], "zh"}
    part = key["part"]
    assert (part["use"], part["version"]) == ("hf", 1)
    assert set(part["settings"]) == {"model", "max_new_tokens", "dtype"} | (
        set(part["settings"]) & {"temperature", "top_p"}
    )
    assert set(part["settings"]["model"]) == {"content"}


def test_keys_are_the_same_wherever_the_repository_lies(tmp_path: Path) -> None:
    folder = tmp_path / "somewhere else"
    folder.mkdir()
    for name in ("tiny.yaml", "tiny-prompts.jsonl"):
        (folder / name).write_bytes((ROOT / "recipes" / name).read_bytes())
    found = plan(load_recipe(folder / "tiny.yaml"), tmp_path)
    assert {unit.name: unit.key for unit in found.units} == GOLDEN


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "recipes").glob("*.yaml")))
def test_the_units_that_cost_most_keep_their_keys(name: str, tmp_path: Path) -> None:
    """Prompts and samples of each shipped recipe whose models are servers, stored or ours."""
    recipe, _, _ = read_recipe(ROOT / "recipes" / name)
    if name not in SAMPLING:
        assert recipe is None or not _sampled_anywhere(recipe), f"{name}: keep its keys, too"
        return
    assert recipe is not None
    found = {unit.name: unit.key for unit in plan(recipe, tmp_path).units}
    assert {unit: found[unit] for unit in SAMPLING[name]} == SAMPLING[name]


def _sampled_anywhere(recipe: Recipe) -> bool:
    """Whether a source is behind a server, so that its keys hang on nothing of this machine."""
    uses = {entry.part.part_name() for entry in recipe.sources.values()}
    return bool(uses & {"endpoint", "vllm"})


SAMPLING: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent / "golden" / "sampling-keys.json").read_text()
)
GOLDEN: dict[str, str] = json.loads(
    (Path(__file__).parent / "golden" / "tiny-keys.json").read_text()
)

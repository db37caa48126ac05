"""Reward models in whole runs: their self-test, and margins that rounding would decide."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bad_lab import GOOD, LENGTH, Lab
from fusechat.planner import least_margin
from fusechat.recipe import Recipe, load_recipe
from fusechat.tables import read_dicts
from tiny_models import tiny_reward_model

WINDOW = "by: length, min_margin: 0.0, max_margin: 1.0"


@pytest.fixture
def lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lab:
    return Lab(tmp_path, capsys)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough that bfloat16 rounds a pack otherwise than a conversation alone."""
    torch.set_num_threads(1)
    sizes = {"hidden_size": 64, "num_hidden_layers": 8, "max_position_embeddings": 1024}
    return tiny_reward_model(tmp_path_factory.mktemp("rm"), "llama", **sizes)


def recipe_with(lab: Lab, model: Path, dtype: str, least: float) -> None:
    use = f"  length: {{use: reward_model, model: {model}, dtype: {dtype}}}"
    window = f"by: length, min_margin: {least}, max_margin: 1000.0"
    lab.recipe.write_text(GOOD.replace(LENGTH, use).replace(WINDOW, window))


def test_a_bfloat16_spread_beyond_a_tenth_of_min_margin_stops_the_run(
    lab: Lab, model: Path
) -> None:
    recipe_with(lab, model, "bfloat16", 1e-6)
    out = lab.run(code=1)
    assert "in bfloat16 gives a conversation scores that differ by up to" in out
    assert "accepts margins from 1e-06 on" in out
    assert "Say dtype: float32 for this annotator, or raise min_margin to" in out
    assert not list((lab.folder / "ws" / "annotate").glob("*/manifest.json"))


def test_the_spread_is_in_the_manifest_and_stops_a_later_run_with_a_narrower_window(
    lab: Lab, model: Path
) -> None:
    """The margin is in no key of the scores, so they are done; the build refuses them."""
    recipe_with(lab, model, "bfloat16", 500.0)
    lab.run()
    test = lab.counts("annotate/length-*")["self_test"]
    assert (test["dtype"], test["way"]) == ("bfloat16", "shared")
    assert test["least_margin"] == 500.0
    assert test["conversations"] >= 5
    assert 1e-7 < test["spread"] < 50.0
    recipe_with(lab, model, "bfloat16", 1e-6)
    assert "which is more than a tenth of min_margin (1e-06)" in lab.run(code=1)


def test_scores_stand_prompt_by_prompt_so_that_sources_share_a_prompts_computation(
    lab: Lab,
) -> None:
    lab.change(("  parrot:", "  other: {use: echo, samples: 1}\n  parrot:"))
    lab.run()
    responses = {
        row["id"]: (row["prompt_id"], row["source"])
        for name in ("other", "parrot")
        for row in read_dicts(lab.unit(f"sample/{name}-*") / "data", ["id", "prompt_id", "source"])
    }
    scores = read_dicts(lab.unit("annotate/length-*") / "data", ["response_id"])
    order = [responses[row["response_id"]] for row in scores]
    assert [source for _, source in order] == ["other", "parrot", "parrot"] * 3
    assert len({prompt for prompt, _ in order[:3]}) == 1


def test_the_least_margin_is_the_smallest_raw_one_above_zero(lab: Lab, model: Path) -> None:
    def recipe() -> Recipe:
        return load_recipe(lab.recipe)

    recipe_with(lab, model, "float32", 0.25)
    assert least_margin(recipe(), "annotate/length") == 0.25
    assert least_margin(recipe(), "annotate/other") is None
    assert least_margin(recipe(), "sample/parrot") is None
    recipe_with(lab, model, "float32", 0.0)
    assert least_margin(recipe(), "annotate/length") is None
    for other in ("window: quantiles", "allow_narrow_window: true"):
        recipe_with(lab, model, "float32", 0.25)
        text = lab.recipe.read_text().replace("max_margin: 1000.0", f"max_margin: 0.9, {other}")
        lab.recipe.write_text(text)
        assert least_margin(recipe(), "annotate/length") is None

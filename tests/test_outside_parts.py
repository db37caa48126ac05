"""Every part type can be added in one file, from outside the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fusechat.errors import RecipeError
from fusechat.parts import load_part
from fusechat.recipe import load_recipe
from fusechat.runner import run
from outside_parts import Hinge

RECIPE = """\
name: outside
prompts:
  riddles: {use: 'outside_parts:Riddles'}
sources:
  shout: {use: 'outside_parts:Shout', samples: 2}
annotators:
  vowels: {use: 'outside_parts:Vowels'}
build:
  riddles:
    split: {rule: sft_only}
    sft: {use: 'outside_parts:Shortest'}
"""


def test_a_task_a_source_an_annotator_and_a_strategy_of_ones_own_run_through_a_recipe(
    tmp_path: Path,
) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    result = run(load_recipe(tmp_path / "r.yaml"), tmp_path / "ws")
    sft = list(result["build"].rows("sft"))
    assert [row.response for row in sft] == [f"TRAIN RIDDLE {n}" for n in range(3)]
    assert {row.reason for row in sft} == {"shortest"}
    assert {score.value for score in result["annotate/vowels"].rows()} == {4.0}
    unit = json.loads((result["sample/shout"].folder / "unit.json").read_text())
    assert unit["made_from"]["settings"]["part"]["use"] == "outside_parts:Shout"


def test_a_loss_of_ones_own_is_loaded_and_called() -> None:
    """1 - (-3 - -2.5) = 1.5 and 1 - (-1 - -4) < 0, so 0."""
    loss = load_part("losses", {"use": "outside_parts:Hinge"})
    assert loss == Hinge()
    logps = {"chosen": torch.tensor([-3.0, -1.0]), "rejected": torch.tensor([-2.5, -4.0])}
    values, _ = loss(logps, {}, 0.0)  # type: ignore[operator]
    assert values.tolist() == [1.5, 0.0]


def test_a_part_of_another_family_is_refused_with_the_right_base(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE.replace("outside_parts:Vowels", "outside_parts:Shout"))
    with pytest.raises(
        RecipeError, match=r"annotators.vowels.use .* derive from fusechat.parts.Annotator"
    ):
        load_recipe(tmp_path / "r.yaml")


def test_a_module_that_cannot_be_imported_is_a_fault_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE.replace("outside_parts:Vowels", "nowhere:Vowels"))
    with pytest.raises(
        RecipeError, match=r"r.yaml:7  annotators.vowels.use  'nowhere:Vowels' cannot"
    ):
        load_recipe(tmp_path / "r.yaml")

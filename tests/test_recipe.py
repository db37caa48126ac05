# ruff: noqa: E501 - messages are shown whole
"""Recipes: every fault at once, each with its line and its mend; nothing is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fusechat.errors import RecipeError
from fusechat.recipe import load_cluster, load_recipe, read_recipe

GOOD = """\
name: small
prompts:
  hello: {use: files, path: prompts.jsonl, domain: chat}
sources:
  parrot: {use: echo, samples: 2}
annotators:
  length: {}
build:
  chat:
    split: {rule: filter_then_share}
    sft: {use: best_of, by: length}
    dpo: {use: same_source_margin, by: length, min_margin: 0.01, max_margin: 0.1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"prompt": f"say {word}", "gold": word} for word in ("one", "two", "three")]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "prompts.jsonl").write_text(text)
    return tmp_path


def faults(folder: Path, text: str, **settings: Any) -> list[str]:
    path = folder / "r.yaml"
    path.write_text(text)
    _, found, _ = read_recipe(path, settings)
    return [str(fault).replace(str(folder) + "/", "") for fault in found]


def test_a_good_recipe_has_no_faults(folder: Path) -> None:
    assert faults(folder, GOOD) == []


def test_paths_are_relative_to_the_recipe_and_not_to_the_caller(folder: Path) -> None:
    (folder / "r.yaml").write_text(GOOD)
    recipe = load_recipe(folder / "r.yaml")
    assert recipe.prompts["hello"].part.path == str(folder / "prompts.jsonl")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("use: echo", "use: ecko", "r.yaml:5  sources.parrot.use  there is no part 'ecko' in sources. "
         "Did you mean 'echo'? Your own: use: package.module:Class"),
        ("samples: 2", "sampels: 2", "r.yaml:5  sources.parrot.sampels  there is no key 'sampels' "
         "here."),
        ("sources:", "souces:", "r.yaml:4  souces  there is no key 'souces' here. "
         "Did you mean 'sources'?"),
        ("min_margin: 0.01", "min_margin: 0.2", "r.yaml:12  build.chat.dpo.min_margin  0.2 is above "
         "max_margin (0.1), so no pair can pass."),
        ("prompts.jsonl", "promts.jsonl", "r.yaml:3  prompts.hello.path  there is nothing at"),
        ("by: length}\n    dpo", "by: lenght}\n    dpo", "r.yaml:11  build.chat.sft.by  there is no "
         "annotator 'lenght'. Did you mean 'length'?"),
        ("samples: 2", "samples: {math: 2}", "r.yaml:5  sources.parrot.samples.math  no prompts have "
         "the domain 'math'. There are: chat."),
        ("samples: 2", "samples: {math: 2}", "r.yaml:4  sources  no source samples the domain 'chat'"),
        ("samples: 2", "samples: 0", "r.yaml:5  sources.parrot  samples must be at least 1"),
        ("domain: chat}", "domain: chat, columns: {prompt: promt}}", "r.yaml:3  "
         "prompts.hello.columns.prompt  prompts.jsonl has no column 'promt'. Did you mean 'prompt'? "
         "It has: prompt, gold."),
        ("name: small", "name: small\nseed: -1", "r.yaml:2  seed  Input should be greater than or "
         "equal to 0 (it is -1)."),
        ("name: small", "name: small\ntrain: {sft: {}}", "r.yaml:2  train.sft  there is no target "
         "to train."),
        ("  length: {}", "  length: {domains: [code]}", "r.yaml:7  annotators.length.domains  no "
         "prompts have the domain 'code'."),
        ("name: small", "name: small\nname: big", "r.yaml:2  name  this key is there twice (first in "
         "line 1). Keep one."),
    ],
)  # fmt: skip
def test_a_fault_has_its_line_and_its_mend(folder: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    found = faults(folder, GOOD.replace(old, new))
    assert any(fault.startswith(expected) for fault in found), found


def test_all_faults_come_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = GOOD.replace("echo", "ecko").replace("best_of", "best").replace("name: small\n", "")
    found = faults(folder, text)
    keys = [fault.split("  ")[1] for fault in found]
    assert keys == ["name", "sources.parrot.use", "build.chat.sft.use"]
    (folder / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match="3 faults; nothing was run") as caught:
        load_recipe(folder / "r.yaml")
    assert caught.value.exit_code == 2


def test_what_a_strategy_says_against_itself_comes_with_faults_of_form(folder: Path) -> None:
    text = GOOD.replace("echo", "ecko").replace("min_margin: 0.01", "min_margin: 2.0")
    keys = [fault.split("  ")[1] for fault in faults(folder, text)]
    assert keys == ["sources.parrot.use", "build.chat.dpo.min_margin"]


def test_yaml_that_is_none_says_the_line(folder: Path) -> None:
    (folder / "r.yaml").write_text("name: small\nprompts: {a: [}\n")
    with pytest.raises(RecipeError, match=r"r.yaml:2  not YAML"):
        load_recipe(folder / "r.yaml")


def test_a_missing_recipe_is_a_fault_and_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot be read: No such file"):
        load_recipe(tmp_path / "gone.yaml")


def test_set_changes_one_key_and_its_faults_name_it(folder: Path) -> None:
    (folder / "r.yaml").write_text(GOOD)
    recipe = load_recipe(folder / "r.yaml", {"build.chat.dpo.min_margin": 0.02, "seed": 7})
    assert recipe.seed == 7
    assert recipe.build is not None
    assert recipe.build.domains["chat"].dpo.min_margin == 0.02  # type: ignore[union-attr]
    found = faults(folder, GOOD, **{"build.chat.dpo.min_margn": 0.02})
    assert found[0].startswith("--set  build.chat.dpo.min_margn  there is no key 'min_margn' here. "
                               "Did you mean 'min_margin'?")  # fmt: skip


def test_variables_fill_in_values_and_unknown_or_unused_ones_are_faults(folder: Path) -> None:
    text = GOOD.replace("name: small", "name: small\nvariables: {file: prompts.jsonl, idle: 1}")
    found = faults(folder, text.replace("path: prompts.jsonl", "path: '${file}'"))
    assert found == [
        "r.yaml:2  variables.idle  nothing uses ${idle}. Remove it, or use it in a value."
    ]
    found = faults(folder, text.replace("path: prompts.jsonl", "path: '${fil}'"))
    assert any("there is no variable 'fil'. Did you mean 'file'?" in fault for fault in found)


def test_an_unknown_model_to_evaluate_is_a_fault(folder: Path) -> None:
    text = (
        GOOD + "evaluate: {tasks: [{use: 'outside_parts:Riddles'}], models: [parot, train.dpo]}\n"
    )
    found = faults(folder, text)
    assert any("there is no model 'parot'. Did you mean 'parrot'?" in fault for fault in found)
    assert any("there is no model 'train.dpo'" in fault for fault in found)


def test_a_cluster_file_with_an_unknown_key_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("default: {proceses: 2}\n")
    with pytest.raises(RecipeError, match=r"c.yaml:1  default.proceses  there is no key"):
        load_cluster(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("default: {processes: 2}\nunits: {train: {threads: 2}}\n")
    cluster = load_cluster(tmp_path / "c.yaml")
    assert cluster.where("train/sft").threads == 2
    assert cluster.where("sample/x").processes == 2

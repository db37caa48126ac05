"""Names of a run's models: which folder each means, and what is said where it means none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusechat.files import write_json
from fusechat.recipe import load_recipe
from fusechat.run_models import ModelNameError, RunModels, named_models
from tiny_world import ROOT, tiny_recipe

UNITS = ("prompts", "sample/gemma", "train/sft", "train/dpo", "select/dpo")


def run_of(folder: Path, done: tuple[str, ...] = (), **models: tuple[str, str]) -> RunModels:
    """A run with these models (`use`, `model`), and these units done."""
    units = {name: folder / f"{name}-0" for name in UNITS}
    for name in done:
        (units[name] / "model").mkdir(parents=True)
        write_json(units[name] / "manifest.json", {})
    said = {name: {"use": use, "model": model} for name, (use, model) in models.items()}
    return RunModels("mini-0", said, units)


def test_a_recipe_says_where_its_models_lie_whatever_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = named_models(load_recipe(path))
    assert found["target"] == {"use": "hf", "model": str(ROOT / "zoo" / "target")}
    assert set(found) == {"target", "gemma", "mistral", "qwen", "llama"}


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("train.sft", "train/sft"),
        ("train/sft", "train/sft"),
        ("train.dpo", "select/dpo"),
        ("select/dpo", "select/dpo"),
        ("train/dpo", "train/dpo"),
    ],
)
def test_a_trained_model_is_its_units_or_that_of_the_unit_that_chose(
    tmp_path: Path, name: str, unit: str
) -> None:
    run = run_of(tmp_path, ("train/sft", "train/dpo", "select/dpo"))
    assert run.trained(name)
    assert run.folder(name) == tmp_path / f"{unit}-0" / "model"


def test_a_model_that_is_not_trained_yet_says_what_to_run(tmp_path: Path) -> None:
    run = run_of(tmp_path, ("train/sft",))
    with pytest.raises(ModelNameError, match="fusechat run RECIPE --only select/dpo"):
        run.folder("train.dpo")
    (tmp_path / "train/sft-0" / "manifest.json").unlink()
    with pytest.raises(ModelNameError, match="--only train/sft"):
        run.folder("train/sft")


def test_sources_and_models_of_the_evaluation_are_found_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "gemma"
    folder.mkdir()
    run = run_of(
        tmp_path, ("train/sft",), gemma=("hf", str(folder)), ours=("hf", "train.sft"),
        served=("endpoint", "org/big"),
    )  # fmt: skip
    assert run.folder("gemma") == run.folder("sample/gemma") == folder
    assert run.folder("ours") == run.folder("train.sft")
    with pytest.raises(ModelNameError, match=r"'endpoint'.*gemma, ours, train\.sft"):
        run.folder("served")


def test_a_folder_that_is_gone_and_a_hub_model_that_is_not_cached_are_said(tmp_path: Path) -> None:
    run = run_of(tmp_path, gemma=("hf", str(tmp_path / "gone")), hub=("hf", "org/name"))
    with pytest.raises(ModelNameError, match=r"gone.*not there any more"):
        run.folder("gemma")
    with pytest.raises(ModelNameError, match="hf download org/name"):
        run.folder("hub")


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    run = run_of(tmp_path, gemma=("hf", "/x"), target=("hf", "/y"))
    with pytest.raises(ModelNameError, match=r"Did you mean 'train\.sft'"):
        run.folder("trained.sft")
    bare = RunModels("mini-0", run.models, {"prompts": tmp_path})
    assert not bare.knows("train.dpo")
    with pytest.raises(ModelNameError, match="does not train it"):
        bare.folder("train.dpo")


def test_a_run_of_an_earlier_version_has_its_trained_models_and_says_what_to_do_for_others(
    tmp_path: Path,
) -> None:
    units = run_of(tmp_path, ("train/sft",)).units
    run = RunModels("old-0", None, units)
    assert run.folder("train.sft").name == "model"
    with pytest.raises(ModelNameError, match="earlier version"):
        run.folder("target")

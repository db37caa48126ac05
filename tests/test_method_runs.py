"""Comparing methods: every method with every seed, one pool, faults first, safe to call again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_world import tiny_recipe

from fusechat import method_runs
from fusechat.cli import main
from fusechat.errors import RecipeError, TrainingError
from fusechat.files import read_json, write_json
from fusechat.method_runs import compare
from fusechat.planner import Plan, plan
from fusechat.recipe import Recipe

METHODS: dict[str, Any] = {
    "all_of_it": {"about": "SFT, then DPO"},
    "sft_only": {"set": {"train.dpo": None}},
    "plain": {"about": "plain DPO", "set": {"train.dpo.loss": {"use": "dpo"}}},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tiny_recipe(tmp_path, methods=METHODS)
    tree = path.read_text()
    path.write_text(tree.replace("  - train.dpo\n", "").replace("  models:\n", "  old_models:\n"))
    text = path.read_text().replace("  old_models:\n  - target\n  - train.sft\n  - llama\n", "")
    path.write_text(text)
    return path


class Stub:
    """Runs that only say numbers: 0.1 a seed, and 0.01 more for every letter of the loss."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.fails = folder, list[str](), set[str]()

    def run(self, recipe: Recipe, workspace: Path, **_: Any) -> None:
        self.asked.append(recipe.name)
        if recipe.name in self.fails:
            raise TrainingError("the loss of step 3 is not finite; more words")
        planned = plan(recipe, workspace)
        assert recipe.train.sft is not None
        seed = recipe.train.sft.seed or 0
        own = len(recipe.train.dpo.loss.part_name()) / 100 if recipe.train.dpo else 0.0
        names = ["target", "train.sft", "train.dpo", "gemma", "llama"]
        values = dict.fromkeys(names, seed / 10) | {"train.dpo": seed / 10 + own}
        models = {n: {"accuracy_strict": v, "mean_tokens": 9.0} for n, v in values.items()}
        found = {"tasks": {"math": {"models": models}}, "average": {"models": models}}
        place = planned.path(planned["evaluate/compare"])
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / "metrics.json", found | {"best_source": "llama"})
        folder = method_runs.run_folder(planned)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").touch()

    def done(self, planned: Plan) -> bool:
        return (planned.path(planned["evaluate/compare"]) / "metrics.json").exists()


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    found = Stub(tmp_path / "ws")
    monkeypatch.setattr(method_runs, "run", found.run)
    monkeypatch.setattr(method_runs, "_done", found.done)
    return found


def test_every_method_runs_with_every_seed_seed_after_seed(recipe: Path, stub: Stub) -> None:
    found = compare(recipe, stub.folder, seeds=[1, 2]).found
    assert stub.asked == [f"tiny-world-{m}-s{s}" for s in (1, 2) for m in METHODS]
    assert [(run["method"], run["seed"]) for run in found["runs"]] == [
        (m, s) for s in (1, 2) for m in METHODS
    ]
    models = {run["method"]: run["model"] for run in found["runs"]}
    assert models == {"all_of_it": "train.dpo", "sft_only": "train.sft", "plain": "train.dpo"}


def test_differences_are_to_the_first_method_and_bases_stand_beside(
    recipe: Path, stub: Stub
) -> None:
    found = compare(recipe, stub.folder, seeds=[1, 2], methods=["plain", "all_of_it"]).found
    gap = found["summary"]["differences"]["all_of_it"]["average"]
    # length_normalized_dpo has 18 more letters than dpo, whatever the seed.
    assert gap["values"] == pytest.approx([0.18, 0.18])
    assert list(found["others"]) == ["base", "best source (llama)"]
    assert found["summary"]["methods"]["plain"]["average"]["mean"] == pytest.approx(0.18)


def test_the_model_after_sft_stands_beside_one_that_went_on(recipe: Path, stub: Stub) -> None:
    found = compare(recipe, stub.folder, seeds=[1, 2]).found
    own = {run["method"]: run["sft"] for run in found["runs"]}
    assert own["sft_only"] is None
    assert own["plain"]["average"] == pytest.approx(0.2)
    assert found["summary"]["added"]["plain"]["average"]["values"] == pytest.approx([0.03, 0.03])
    assert list(found["summary"]["added"]) == ["all_of_it", "plain"]


def test_methods_and_seeds_share_everything_but_the_training(recipe: Path, tmp_path: Path) -> None:
    _, runs = method_runs.method_runs(recipe, None, [1, 2], {})
    keys = [{u.name: u.key for u in plan(one.recipe, tmp_path).units} for one in runs]
    pool = [n for n in keys[0] if not n.startswith(("train", "select", "evaluate"))]
    assert {"prompts", "sample/gemma", "annotate/reward", "build"} <= set(pool)
    assert all(own[name] == keys[0][name] for own in keys for name in pool)
    sft = {(one.method, one.seed): own["train/sft"] for one, own in zip(runs, keys, strict=True)}
    assert len({sft[m, 1] for m in METHODS}) == 1
    assert sft["plain", 1] != sft["plain", 2]
    dpo = {own["train/dpo"] for one, own in zip(runs, keys, strict=True) if "train/dpo" in own}
    assert len(dpo) == 4


def test_called_again_nothing_runs_and_the_table_is_the_same(recipe: Path, stub: Stub) -> None:
    first = compare(recipe, stub.folder, seeds=[1, 2])
    asked = list(stub.asked)
    again = compare(recipe, stub.folder, seeds=[1, 2])
    assert stub.asked == asked
    assert (again.folder, again.found) == (first.folder, first.found)
    assert read_json(first.folder / "compare.json") == first.found
    assert (first.folder / "compare.md").read_text().startswith("# tiny-world: methods")


def test_what_is_finished_stands_in_the_table_when_a_run_stops(
    recipe: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(one: Recipe, workspace: Path, **more: Any) -> None:
        if len(stub.asked) == 4:
            raise KeyboardInterrupt
        stub.run(one, workspace, **more)

    monkeypatch.setattr(method_runs, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        compare(recipe, stub.folder, seeds=[1, 2])
    (path,) = (stub.folder / "runs").glob("*-compare-*/compare.json")
    assert len(read_json(path)["runs"]) == 4
    monkeypatch.setattr(method_runs, "run", stub.run)
    assert len(compare(recipe, stub.folder, seeds=[1, 2]).found["runs"]) == 6
    assert len(stub.asked) == 6


def test_a_method_whose_training_breaks_is_told_and_the_others_go_on(
    recipe: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.fails = {"tiny-world-plain-s2"}
    where = ["--workspace", str(stub.folder), "--quiet"]
    assert main(["compare", str(recipe), "--seeds", "1,2", *where]) == 1
    out = capsys.readouterr().out
    assert "5 of 6 runs; training seeds 1, 2." in out
    assert "failed: plain, seed 2: the loss of step 3 is not finite" in out
    stub.fails = set()
    assert main(["compare", str(recipe), "--seeds", "1,2", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["failed"] == []


def with_method(recipe: Path, name: str, changes: dict[str, Any]) -> None:
    text = json.dumps(changes)
    recipe.write_text(recipe.read_text().replace("methods:\n", f"methods:\n  {name}: {text}\n"))


def faults_of(call: Callable[[], Any]) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        call()
    return [str(fault) for fault in caught.value.faults]


def test_the_faults_of_all_methods_are_told_before_anything_runs(recipe: Path, stub: Stub) -> None:
    with_method(recipe, "one_bad", {"set": {"train.dpo.loss": {"use": "dppo"}}})
    with_method(recipe, "two_bad", {"set": {"train.dpo.learning_rat": 1}})
    faults = faults_of(lambda: compare(recipe, stub.folder))
    assert any("there is no part 'dppo' in losses. Did you mean 'dpo'?" in f for f in faults)
    assert any("there is no key 'learning_rat' here." in f for f in faults)
    assert stub.asked == []


def test_a_method_must_end_with_a_model_that_is_evaluated(recipe: Path, stub: Stub) -> None:
    with_method(recipe, "nothing", {"set": {"train.dpo": None, "train.sft": None}})
    with_method(recipe, "unseen", {"set": {"evaluate.models": ["target"]}})
    with_method(recipe, "blind", {"set": {"evaluate": None}})
    faults = faults_of(lambda: compare(recipe, stub.folder))
    assert any("methods.nothing  this method trains nothing" in fault for fault in faults)
    assert any("methods.unseen  the model that it ends with, train.dpo, is" in f for f in faults)
    assert any("methods.blind  there is no evaluation to compare by" in fault for fault in faults)


def test_wrong_names_and_seeds_are_faults_of_the_call(
    recipe: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--workspace", str(stub.folder), "--quiet"]
    assert main(["compare", str(recipe), "--methods", "plain,sft_onyl", *where]) == 2
    assert "there is no method 'sft_onyl'. Did you mean 'sft_only'?" in capsys.readouterr().err
    assert main(["compare", str(recipe), "--seeds", "1,x", *where]) == 2
    assert "seeds are whole numbers" in capsys.readouterr().err
    cluster = stub.folder.parent / "c.yaml"
    cluster.write_text("units: {train/spo: {}}\n")
    assert main(["compare", str(recipe), "--cluster", str(cluster), *where]) == 2
    assert "the plan has no unit 'train/spo'" in capsys.readouterr().err


def test_a_recipe_without_methods_says_how_to_add_one(tmp_path: Path, stub: Stub) -> None:
    (fault,) = faults_of(lambda: compare(tiny_recipe(tmp_path), stub.folder))
    assert "the recipe has no section 'methods'" in fault


@pytest.mark.slow
def test_methods_of_the_miniature_world_are_trained_and_compared(
    recipe: Path, tmp_path: Path
) -> None:
    found = compare(recipe, tmp_path / "ws", methods=["all_of_it", "sft_only"], seeds=[1, 2])
    entries = found.found["summary"]["methods"]
    assert {name: entry["average"]["n"] for name, entry in entries.items()} == {
        "all_of_it": 2, "sft_only": 2
    }  # fmt: skip
    assert "best source" in str(found)
    assert (found.folder / "compare.md").exists()

"""The training units in `fusechat plan`: memory and time, from rows built or expected."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from training_tiny import WORDS, save_base

from fusechat.cli import main
from fusechat.doctor.chain import examine
from fusechat.errors import RecipeError
from fusechat.forecast import training
from fusechat.forecast.costs import forecast
from fusechat.recipe import Cluster, load_recipe
from fusechat.runner import Options, run

pytestmark = pytest.mark.filterwarnings("ignore")
BUILD = {
    "chat": {
        "split": {"rule": "filter_then_share", "sft_share": 0.5},
        "sft": {"use": "best_of", "by": "length"},
        "dpo": {"use": "same_source_margin", "by": "length", "min_margin": 0.01, "max_margin": 1.0},
    }
}


def _recipe(folder: Path, model: str | None = None) -> Path:
    rows = [{"prompt": " ".join(WORDS[n % 50 :][: 3 + n % 9])} for n in range(40)]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "name": "small",
        "target": {"model": model or str(save_base(folder / "base"))},
        "prompts": {"hello": {"use": "files", "path": "p.jsonl", "domain": "chat"}},
        "sources": {"parrot": {"use": "echo", "samples": 4}},
        "annotators": {"length": {}},
        "build": BUILD,
        "train": {
            "sft": {"global_batch_size": 4, "num_train_epochs": 2, "max_length": 512},
            "dpo": {"global_batch_size": 4, "held_out": 0.25, "max_length": 512},
        },
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def _plans(recipe: Path, workspace: Path, only: str, **where: Any) -> Any:
    cluster = Cluster.model_validate({"units": {"train": where}})
    planned = run(load_recipe(recipe), workspace, cluster=cluster, options=Options(only=only)).plan
    return {one.unit: one for one in forecast(planned, cluster).training}


def test_a_finished_build_tells_rows_steps_and_lengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = _plans(_recipe(tmp_path), tmp_path / "ws", "build", gpu="h100")
    sft, dpo = plans["train/sft"], plans["train/dpo"]
    assert sft.rows + dpo.rows / 0.75 == 40
    assert sft.steps == 2 * -(-int(sft.rows) // 4)
    assert "rows that were built" in sft.notes[0]
    assert sft.fits
    assert 0 < sft.hours < 1e-3
    assert dpo.choice.needs.kept < 1e9
    few = _plans(tmp_path / "small.yaml", tmp_path / "ws", "build", gpu="h100")
    monkeypatch.setattr(training, "LOOKED_AT", 7)
    some = _plans(tmp_path / "small.yaml", tmp_path / "ws", "build", gpu="h100")
    assert some["train/sft"].rows == few["train/sft"].rows
    assert some["train/sft"].hours == pytest.approx(few["train/sft"].hours, rel=0.3)


def test_before_a_build_only_memory_is_known_of_the_longest_rows_there_can_be(
    tmp_path: Path,
) -> None:
    plans = _plans(_recipe(tmp_path), tmp_path / "ws", "prompts", gpu="24GB")
    for one in plans.values():
        assert (one.rows, one.hours) == (None, None)
        assert one.fits


def test_a_pilot_tells_rows_that_are_not_built_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, workspace = _recipe(tmp_path), tmp_path / "ws"
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("units: {train: {gpu: h200}}\n")
    call = ["plan", str(recipe), "--workspace", str(workspace), "--cluster", str(cluster)]
    assert main([*call, "--pilot", "10"]) == 0
    printed = capsys.readouterr().out
    assert "train/sft: 20 rows x 2 epochs, 10 steps, on one h200" in printed
    assert "TFLOP/s a GPU (assumed: 32% of its peak)" in printed
    assert "the pilot's yield" in printed
    assert main([*call, "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert [one["unit"] for one in tree["training"]] == ["train/sft", "train/dpo"]
    assert not any(name.startswith("train/") for name in tree["not_forecast"])


def test_a_target_too_large_for_the_gpu_ends_plan_with_a_fault_and_is_found_by_doctor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, workspace = _recipe(tmp_path), tmp_path / "ws"
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("units: {train: {gpu: 0.5GB}}\n")
    call = ["plan", str(recipe), "--workspace", str(workspace), "--cluster", str(cluster)]
    assert main(call) == 2
    printed = capsys.readouterr()
    assert "on a GPU of 0.5GB" in printed.out
    assert "does NOT fit" in printed.out
    assert "error: train/sft takes" in printed.err
    found = examine(
        load_recipe(recipe), workspace,
        cluster=Cluster.model_validate({"units": {"train": {"gpu": "0.5GB"}}}),
    ).findings  # fmt: skip
    faults = [one for one in found if one.check == "training-memory"]
    assert [one.place for one in faults] == ["train.sft", "train.dpo"]


def test_a_gpu_that_is_not_known_is_a_fault_of_the_cluster_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"units\.train/sft\.gpu.*no GPU 'hal9000'"):
        _plans(_recipe(tmp_path), tmp_path / "ws", "prompts", gpu="hal9000")

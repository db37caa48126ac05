"""A run that is killed and resumed writes the bytes of one that was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from training_tiny import bytes_of, demonstrations, pairs, save_base, save_build

SCRIPT = Path(__file__).with_name("train_forked.py")
KILLED = -9
Runs = list[tuple[str, dict[str, str]]]


def _runs(folder: Path, stage: str, runs: Runs) -> list[int]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), stage, json.dumps(runs)],
        stdout=subprocess.PIPE, text=True, timeout=280, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0
    statuses: list[int] = json.loads(done.stdout)
    return statuses


def _prepare(folder: Path) -> Path:
    save_base(folder / "base", tie_word_embeddings=True)
    save_build(folder / "build", demonstrations(16), pairs(16))
    return folder


def _reached(folder: Path, stage: str) -> Counter[str]:
    """Runs `folder/whole` to its end; how often it passed each fault point."""
    log = folder / "reached.txt"
    assert _runs(folder, stage, [("whole", {"FUSECHAT_FAULT_LOG": str(log)})]) == [0]
    return Counter(log.read_text().split())


def _units(points: list[str]) -> list[str]:
    """A unit for each, none beside another, so that none takes over what another has made."""
    return [f"{point}/unit" for point in points]


def _killed_and_resumed(points: list[str]) -> Runs:
    return [
        run
        for point, unit in zip(points, _units(points), strict=True)
        for run in ((unit, {"FUSECHAT_KILL_AT": point}), (unit, {}))
    ]


def _assert_like_whole(folder: Path, units: list[str]) -> None:
    whole = bytes_of(folder / "whole")
    assert "model/model.safetensors" in whole
    for unit in units:
        assert bytes_of(folder / unit) == whole, unit


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_run_killed_after_a_step_or_a_checkpoint_gives_the_bytes_of_an_unbroken_one(
    stage: str, tmp_path: Path
) -> None:
    # 16 rows in batches of 6 are 3 steps an epoch; checkpoints after steps 2, 4 and 6.
    points = ["train.step:3", "train.checkpoint:1"]
    statuses = _runs(_prepare(tmp_path), stage, [("whole", {}), *_killed_and_resumed(points)])
    assert statuses == [0, KILLED, 0, KILLED, 0]
    _assert_like_whole(tmp_path, _units(points))


def test_a_run_killed_again_and_again_gives_the_bytes_of_an_unbroken_one(tmp_path: Path) -> None:
    kills = [
        "train.reference.chunk:1", "train.reference.written:1", "train.step:3",
        "train.checkpoint.written:1", "train.model:1",
    ]  # fmt: skip
    again: Runs = [("apart/again", {"FUSECHAT_KILL_AT": point}) for point in kills]
    statuses = _runs(_prepare(tmp_path), "dpo", [("whole", {}), *again, ("apart/again", {})])
    assert statuses == [0, *[KILLED] * len(kills), 0]
    _assert_like_whole(tmp_path, ["apart/again"])


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_run_killed_at_any_place_that_it_passes_gives_the_bytes_of_an_unbroken_one(
    stage: str, tmp_path: Path
) -> None:
    reached = _reached(_prepare(tmp_path), stage)
    assert (reached["train.step"], reached["train.checkpoint"]) == (6, 3)
    points = [f"{name}:{n}" for name, count in reached.items() for n in range(1, count + 1)]
    statuses = _runs(tmp_path, stage, _killed_and_resumed(points))
    assert statuses == [KILLED, 0] * len(points)
    _assert_like_whole(tmp_path, _units(points))

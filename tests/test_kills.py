"""The whole pipeline, killed over and over and resumed, ends with an unbroken run's bytes.

Moments are drawn from the fault points that an unbroken run passes: after each durable write,
rename, journal entry and optimizer step, in every unit. All kills hit one workspace, one after
the other, so that every resume works on what the last kill left.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_world import tiny_recipe

KEPT = (".parquet", ".safetensors", "metrics.json", "metrics.jsonl")


def results(workspace: Path) -> dict[str, bytes]:
    """Every table, model and metric of a workspace, by path; checkpoints are working files."""
    return {
        str(path.relative_to(workspace)): path.read_bytes()
        for path in sorted(workspace.rglob("*"))
        if path.name.endswith(KEPT) and "checkpoints" not in path.parts
    }


def fusechat(recipe: Path, workspace: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """One run in a session of its own, so that a kill takes its workers along."""
    command = [sys.executable, "-m", "fusechat", "run", str(recipe), "--workspace", str(workspace)]
    paths = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": paths} | environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        out, _ = process.communicate(timeout=240)
    return subprocess.CompletedProcess(command, process.returncode, out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """A recipe with every stage, an unbroken run of it, and the places that this passed."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = tiny_recipe(folder)
    done = fusechat(recipe, folder / "ws", FUSECHAT_FAULT_LOG=str(folder / "places"))
    assert done.returncode == 0, done.stdout
    return recipe, folder / "ws", (folder / "places").read_text().split()


def kill_and_compare(
    whole: tuple[Path, Path, list[str]], broken: Path, kills: int, seed: int
) -> None:
    recipe, unbroken, places = whole
    assert {"train.step", "file.renamed", "journal.appended", "manifest.written"} <= set(places)
    draw = random.Random(seed)
    stretch = len(places) // kills
    print("seed", seed, "places", len(places))
    hit = 0
    for number in range(kills):
        moment = draw.randint(max(1, stretch // 2), stretch)
        done = fusechat(recipe, broken, FUSECHAT_KILL_AT=f"*:{moment}")
        assert done.returncode in (0, -signal.SIGKILL), done.stdout
        hit += done.returncode == -signal.SIGKILL
        finished = len(list(broken.rglob("manifest.json")))
        print(f"kill {number}: after {moment} places; {finished} units are done")
    assert hit >= kills * 0.8, "too few moments were reached before the run ended"
    done = fusechat(recipe, broken)
    assert done.returncode == 0, done.stdout
    assert results(broken).keys() == results(unbroken).keys()
    differ = [name for name, data in results(unbroken).items() if results(broken)[name] != data]
    assert differ == []


def test_a_run_killed_at_5_moments_ends_with_the_bytes_of_an_unbroken_one(
    whole: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    kill_and_compare(whole, tmp_path / "ws", kills=5, seed=2503)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_at_20_moments_ends_with_the_bytes_of_an_unbroken_one(
    whole: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    kill_and_compare(whole, tmp_path / "ws", kills=20, seed=4222)

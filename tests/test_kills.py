"""The whole pipeline, killed over and over and resumed, ends with an unbroken run's bytes.

Moments are drawn from the fault points that an unbroken run passes: after each durable write,
rename, journal entry and optimizer step, in every unit. All kills hit one workspace, one after
the other, so that every resume works on what the last kill left.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kill_lab import IN_FLIGHT
from running import finish, results
from tiny_world import tiny_recipe

pytestmark = pytest.mark.timeout(1800)
OPENING = 12
"""About so many places are passed before a resumed run comes to new work."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """A recipe with every stage, an unbroken run of it, and the places that this passed."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = tiny_recipe(folder)
    code, out = finish(recipe, folder / "ws", FUSECHAT_FAULT_LOG=str(folder / "places"))
    assert code == 0, out
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
        moment = OPENING + draw.randint(max(1, stretch // 2), stretch)
        code, out = finish(recipe, broken, FUSECHAT_KILL_AT=f"*:{moment}")
        assert code in (0, -signal.SIGKILL), out
        hit += code == -signal.SIGKILL
        finished = len(list(broken.rglob("manifest.json")))
        print(f"kill {number}: after {moment} places; {finished} units are done")
    assert hit >= kills * 0.8, "too few moments were reached before the run ended"
    code, out = finish(recipe, broken)
    assert code == 0, out
    assert results(broken).keys() == results(unbroken).keys()
    differ = [name for name, data in results(unbroken).items() if results(broken)[name] != data]
    assert differ == []


def test_a_run_killed_at_5_moments_ends_with_the_bytes_of_an_unbroken_one(
    whole: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    kill_and_compare(whole, tmp_path / "ws", kills=5, seed=2503)


@pytest.mark.slow
def test_a_run_killed_at_20_moments_ends_with_the_bytes_of_an_unbroken_one(
    whole: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    kill_and_compare(whole, tmp_path / "ws", kills=20, seed=4222)


def kill_stub_runs(folder: Path, kills: int, seed: int) -> None:
    """Kills over sampling, annotating and building with stub parts, in a program of its own."""
    lab = Path(__file__).with_name("kill_lab.py")
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, str(lab), str(folder), str(kills), str(seed)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    print("seed", seed, said)
    assert said["twice"] == 0, "an unbroken run asks for no row twice"
    assert sum(run["kills"] for run in said["runs"]) == kills
    for run in said["runs"]:
        assert run["same"], "a row was lost, doubled or changed"
        assert run["asked_all"]
        assert 0 <= run["excess"] <= IN_FLIGHT * run["kills"]


def test_25_random_kills_lose_and_double_nothing_and_ask_again_only_what_was_in_flight(
    tmp_path: Path,
) -> None:
    kill_stub_runs(tmp_path, kills=25, seed=911)


@pytest.mark.slow
def test_1000_random_kills_lose_and_double_nothing_and_ask_again_only_what_was_in_flight(
    tmp_path: Path,
) -> None:
    kill_stub_runs(tmp_path, kills=1000, seed=2718)

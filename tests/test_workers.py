"""Several processes on one workspace: all rows once, whoever dies, sleeps or comes late."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fusechat import cli, runner, workers
from fusechat.errors import FusechatError, StaleInputError
from fusechat.planner import plan
from fusechat.recipe import Recipe, read_recipe
from fusechat.records import Response
from fusechat.tables import read_table, shards
from kill_lab import RECIPE
from running import results
from stub_parts import Inline
from worker_lab import requests

LAB = Path(__file__).with_name("worker_lab.py")
ROWS = 30


def start(folder: Path, role: str, **environment: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    leases = {"FUSECHAT_LEASE_BEAT": "0.1", "FUSECHAT_LEASE_PATIENCE": "2"}
    tally = {"FUSECHAT_TEST_TALLY": str(folder / "tally"), "PYTHONPATH": paths}
    return subprocess.Popen(
        [sys.executable, str(LAB), str(folder), role, str(ROWS)],
        env=os.environ | leases | tally | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    with process:
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    return out


def received(folder: Path) -> Counter[str]:
    path = folder / "tally"
    return Counter(path.read_text().split()) if path.exists() else Counter()


def wait_for(folder: Path, rows: int) -> None:
    end = time.monotonic() + 60
    while received(folder).total() < rows:
        assert time.monotonic() < end, "the worker did not come to its work"
        time.sleep(0.05)


def check_whole(folder: Path) -> None:
    table = list(read_table(folder / "unit" / "data", Response))
    assert [row.made_from for row in table] == [row.made_from for row in requests(ROWS)]
    assert len(shards(folder / "unit" / "data")) == 8
    assert not list((folder / "unit" / "journal").glob("*.jsonl"))


def test_two_workers_and_the_run_share_the_shards_and_each_row_is_asked_once(
    tmp_path: Path,
) -> None:
    first = start(tmp_path, "worker", FUSECHAT_TEST_PAUSE="5")
    second = start(tmp_path, "worker", FUSECHAT_TEST_PAUSE="5")
    wait_for(tmp_path, 10)  # both are in the middle of a shard
    third = start(tmp_path, "run")
    wait_for(tmp_path, 12)
    (tmp_path / "go").touch()
    assert all("JobResult" in said(process) for process in (first, second))
    assert said(third).strip() == "JobResult(rows=30, missing=0, stopped=None, failed_early=False)"
    check_whole(tmp_path)
    assert set(received(tmp_path).values()) == {1}


def test_the_shard_of_a_worker_killed_in_it_is_taken_over_and_only_rows_in_flight_are_asked_again(
    tmp_path: Path,
) -> None:
    killed = start(tmp_path, "worker", FUSECHAT_TEST_PAUSE="6")
    with killed:
        wait_for(tmp_path, 6)
        killed.kill()
    assert len(shards(tmp_path / "unit" / "data")) == 1
    assert "missing=0" in said(start(tmp_path, "run"))
    check_whole(tmp_path)
    again = [name for name, count in received(tmp_path).items() if count > 1]
    assert 1 <= len(again) <= 4, "a batch is what was in flight: one shard of 4"


def test_a_holder_that_sleeps_is_taken_over_and_does_no_harm_when_it_wakes(
    tmp_path: Path,
) -> None:
    sleeper = start(tmp_path, "worker", FUSECHAT_TEST_PAUSE="6")
    wait_for(tmp_path, 6)
    sleeper.send_signal(signal.SIGSTOP)
    assert "missing=0" in said(start(tmp_path, "run"))
    check_whole(tmp_path)
    before = {path: path.read_bytes() for path in shards(tmp_path / "unit" / "data")}
    (tmp_path / "go").touch()
    sleeper.send_signal(signal.SIGCONT)
    assert "JobResult" in said(sleeper)
    check_whole(tmp_path)
    assert before == {path: path.read_bytes() for path in shards(tmp_path / "unit" / "data")}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of stub parts, whose rows are computed in this process."""
    for module in (runner, workers):
        monkeypatch.setattr(module, "open_executor", lambda *_: Inline())
    monkeypatch.setenv("FUSECHAT_TEST_TALLY", str(tmp_path / "tally"))
    lines = [json.dumps({"prompt": f"question {i}"}) + "\n" for i in range(300)]
    (tmp_path / "prompts.jsonl").write_text("".join(lines))
    path = tmp_path / "shared.yaml"
    path.write_text(RECIPE)
    return path


def load(path: Path) -> Recipe:
    found, faults, _ = read_recipe(path, {})
    assert found is not None, faults
    return found


def test_a_run_closes_what_workers_computed_and_has_the_bytes_of_a_run_alone(
    recipe: Path, tmp_path: Path
) -> None:
    loaded, shared = load(recipe), tmp_path / "shared"
    runner.run(loaded, shared, options=runner.Options(only="prompts"))
    assert cli.main(
        ["worker", str(recipe), "--unit", "sample/one", "--workspace", str(shared), "--quiet"]
    ) == 0  # fmt: skip
    asked = received(tmp_path)
    assert asked.total() == 1200
    unit = plan(loaded, shared)["sample/one"]
    folder = plan(loaded, shared).path(unit)
    assert len(shards(folder / "data")) == 2
    assert not (folder / "manifest.json").exists(), "only the run closes a unit"
    runner.run(loaded, shared, options=runner.Options(only="sample/one"))
    assert received(tmp_path) == asked, "no row is asked again"
    assert workers.work(loaded, shared, "sample/one") is None, "it is done"
    runner.run(loaded, shared)
    runner.run(loaded, tmp_path / "alone")
    assert results(shared) == results(tmp_path / "alone")


def test_a_worker_says_what_to_run_first(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(StaleInputError, match="needs prompts, which is not done"):
        workers.work(load(recipe), tmp_path / "ws", "sample/one")
    with pytest.raises(FusechatError, match=r"'build' is no unit.*sample/one, sample/two, anno"):
        workers.work(load(recipe), tmp_path / "ws", "build")
    with pytest.raises(FusechatError, match="Did you mean 'sample/one'"):
        workers.work(load(recipe), tmp_path / "ws", "sample/on")


def test_a_worker_waits_for_a_run_that_has_not_come_to_its_unit(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, place = load(recipe), tmp_path / "ws"
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        monkeypatch.undo()
        monkeypatch.setattr(workers, "open_executor", lambda *_: Inline())
        monkeypatch.setattr(runner, "open_executor", lambda *_: Inline())
        runner.run(loaded, place, options=runner.Options(only="prompts"))

    monkeypatch.setattr(workers.time, "sleep", sleep)
    monkeypatch.setattr(workers, "lock_holder", lambda workspace: {"pid": 1})
    result = workers.work(loaded, place, "sample/one")
    assert waits
    assert result is not None
    assert result.missing == 0


def test_a_worker_does_not_compute_for_inputs_that_changed_meanwhile(
    recipe: Path, tmp_path: Path
) -> None:
    loaded, place = load(recipe), tmp_path / "ws"
    runner.run(loaded, place, options=runner.Options(only="prompts"))
    found = plan(loaded, place)
    workers.work(loaded, place, "sample/one")
    file = found.path(found["sample/one"]) / "unit.json"
    file.write_text(file.read_text().replace('"prompts": "', '"prompts": "0'))
    with pytest.raises(StaleInputError, match="made from other inputs"):
        workers.work(loaded, place, "sample/one")

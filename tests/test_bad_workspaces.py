"""Bad workspaces and broken runs: nothing is lost, nothing is corrupted, the mend works."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bad_lab import ECHO, SLOW, Lab
from fusechat.locks import workspace_lock
from fusechat.tables import read_dicts
from running import finish, results, start


@pytest.fixture
def lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lab:
    return Lab(tmp_path, capsys)


@pytest.mark.parametrize(
    "place", ["prompts.jsonl", "prompts.jsonl/below", "/proc/fusechat-workspace"]
)
def test_a_workspace_that_cannot_be_written_is_refused(lab: Lab, place: str) -> None:
    out = lab.run(code=1, workspace=place)
    assert f"the workspace {place} cannot be written: " in out
    assert "--workspace FOLDER" in out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_workspace_is_refused(lab: Lab) -> None:
    (lab.folder / "ws").mkdir(mode=0o555)
    assert "cannot be written: Permission denied" in lab.run(code=1)


def test_a_full_disk_stops_without_a_traceback_and_the_run_goes_on_after(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device", "ws")

    with monkeypatch.context() as patch:
        patch.setattr("fusechat.files.os.fsync", full)
        assert "No space left on device. All finished work is kept." in lab.run(code=1)
    lab.run()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def scramble(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:40] + b"\xff" * 30 + data[70:])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (truncate, "data/00000.parquet is damaged: Parquet magic bytes not found"),
        (scramble, "data/00000.parquet is damaged: "),
        (Path.unlink, "data is damaged: it holds 0 of 6 rows. Remove "),
    ],
)
def test_a_damaged_shard_is_found_before_it_is_read_and_the_mend_works(
    lab: Lab, damage: Any, told: str
) -> None:
    lab.run()
    unit = lab.unit("sample/parrot-*")
    whole = results(lab.folder / "ws")
    (shard,) = (unit / "data").iterdir()
    damage(shard)
    out = lab.run("--set", "annotators.length.scale=7", code=1)
    assert told in out
    assert "manifest.json" in out
    assert "run again: what is missing is made anew." in out
    shard.unlink(missing_ok=True)
    (unit / "manifest.json").unlink()
    lab.run()
    assert {k: v for k, v in results(lab.folder / "ws").items() if k in whole} == whole


def test_a_half_written_unit_folder_is_finished_with_the_same_bytes(lab: Lab) -> None:
    """A torn journal, foreign lines in it, no manifest, a unit.json that is gone."""
    lab.run()
    whole = results(lab.folder / "ws")
    unit = lab.unit("sample/parrot-*")
    rows = list(read_dicts(unit / "data"))
    shutil.rmtree(unit / "data")
    (unit / "manifest.json").unlink()
    (unit / "journal").mkdir()
    journal = json.dumps(rows[0]) + "\ngarbage\n" + '{"a": 1}\n' + json.dumps(rows[1])[:40]
    (unit / "journal" / "00000.jsonl").write_text(journal)
    lab.run()
    assert results(lab.folder / "ws") == whole
    for name in ("manifest.json", "unit.json"):
        (unit / name).unlink()
    lab.run()
    assert results(lab.folder / "ws") == whole
    (unit / "manifest.json").write_text("{")
    assert "manifest.json is damaged: it is no JSON" in lab.run(code=1)


def test_a_run_killed_with_kill_9_goes_on_with_the_bytes_of_an_unbroken_one(lab: Lab) -> None:
    """Killed at the first row kept, and at the first manifest; `test_kills.py` has all places."""
    lab.change((ECHO, SLOW.format(tally=lab.folder / "tally", seconds=0)))
    lab.run(workspace="whole")
    for moment in ("journal.appended:1", "manifest.written:2"):
        code, out = finish(lab.recipe, lab.folder / "ws", FUSECHAT_KILL_AT=moment)
        assert code == -signal.SIGKILL, out
    lab.run()
    assert results(lab.folder / "ws") == results(lab.folder / "whole")


def test_ctrl_c_keeps_every_finished_row_and_says_how_to_go_on(lab: Lab) -> None:
    tally = lab.folder / "tally"
    lab.change((ECHO, SLOW.format(tally=tally, seconds=0.3)))
    process = start(lab.recipe, lab.folder / "ws")
    deadline = time.monotonic() + 60
    while not list((lab.folder / "ws").glob("sample/*/journal/*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "interrupted; all finished work is kept. The same command goes on from here." in out
    assert "Traceback" not in out
    (journal,) = (lab.folder / "ws").glob("sample/*/journal/*.jsonl")
    kept = {
        (row["prompt_id"], str(row["index"]))
        for row in map(json.loads, journal.read_text().splitlines())
    }
    tally.unlink()
    lab.run("--set", "sources.parrot.seconds=0.3")
    assert not kept & {tuple(line.split()) for line in tally.read_text().splitlines()}
    assert lab.counts("sample/parrot-*")["responses"] == 12


def test_a_second_run_is_refused_or_waits_and_never_corrupts(lab: Lab) -> None:
    with ExitStack() as held:
        held.enter_context(workspace_lock(lab.folder / "ws", "another"))
        out = lab.run(code=1)
        assert f"ws is in use by another run (another, process {os.getpid()} on " in out
        assert "(--wait does so), stop it, or give another --workspace. Nothing was changed." in out
        assert not list((lab.folder / "ws").glob("*-*"))
        release = threading.Timer(0.7, held.pop_all().close)
        release.start()
        lab.run("--wait")
        assert release.finished.is_set()
    assert lab.counts("sample/parrot-*")["responses"] == 6

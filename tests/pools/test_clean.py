"""Clean: only folders that no run refers to go, and what is left is whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fusechat.cli import main
from fusechat.errors import DamagedError, WorkspaceBusyError
from fusechat.locks import workspace_lock
from fusechat.planner import plan
from fusechat.pools.clean import GONE, clean, readable, unused
from fusechat.recipe import Recipe, load_recipe
from fusechat.runner import run, run_folder, write_report

RECIPE = """\
name: small
prompts:
  hello: {use: files, path: prompts.jsonl, domain: chat}
sources:
  one: {use: echo, samples: 3}
annotators:
  length: {scale: 100.0}
build:
  chat:
    split: {rule: sft_only}
    sft: {use: best_of, by: length}
"""


def recipe_at(folder: Path, scale: float = 100.0) -> Recipe:
    rows = "".join(json.dumps({"prompt": f"word{i}"}) + "\n" for i in range(5))
    (folder / "prompts.jsonl").write_text(rows)
    (folder / "r.yaml").write_text(RECIPE.replace("100.0", str(scale)))
    return load_recipe(folder / "r.yaml")


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that share prompts and samples; the first one's folder under runs/ is removed."""
    root = tmp_path_factory.mktemp("two")
    first, _ = (run(recipe_at(root, scale), root / "ws").folder for scale in (100.0, 50.0))
    shutil.rmtree(first)
    return root / "ws"


@pytest.fixture
def workspace(two_runs: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(two_runs, tmp_path / "ws")
    return tmp_path / "ws"


def test_only_what_no_run_names_is_listed_and_removed(workspace: Path, tmp_path: Path) -> None:
    (workspace / "mine").mkdir()
    (workspace / "mine" / "notes.txt").write_text("keep")
    (workspace / "pilots").mkdir()
    (workspace / "pilots" / "p.json").write_text("{}")
    names = sorted(one.name.rsplit("-", 1)[0] for one in unused(workspace))
    assert names == ["annotate/length", "build"]
    assert [one.adoptable for one in unused(workspace)].count(True) == 1
    listed = {one.name for one in unused(workspace)}
    assert {one.name for one in clean(workspace)} == listed
    assert not any((workspace / name).exists() for name in listed)
    assert unused(workspace) == []
    assert (workspace / "mine" / "notes.txt").exists()
    assert (workspace / "pilots" / "p.json").exists()
    recipe = recipe_at(tmp_path, 50.0)
    planned = plan(recipe, workspace)
    assert {found.state for found in planned.standings().values()} == {"done"}
    assert write_report(planned, run_folder(planned)).exists()


def test_units_of_an_unfinished_run_stay(tmp_path: Path) -> None:
    result = run(recipe_at(tmp_path), tmp_path / "ws")
    build = result["build"].folder
    (build / "manifest.json").unlink()
    assert clean(tmp_path / "ws") == []
    assert (build / "unit.json").exists()


def test_a_folder_that_a_worker_holds_stays(workspace: Path) -> None:
    (one,) = [found for found in unused(workspace) if found.adoptable]
    code = "import sys, pathlib, os; from fusechat.executors.leases import Leases; "
    code += "Leases(pathlib.Path(sys.argv[1])).take(0); os._exit(0)"
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", code, str(one.folder / "journal")]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True)
    (lease,) = (one.folder / "journal").glob("*.lease.*")
    assert one.name in {found.name for found in unused(workspace)}, "its holder is dead"
    said = json.loads(lease.read_text()) | {"host": "another"}
    lease.write_text(json.dumps(said))
    os.utime(lease, (0, 0))
    assert one.name not in {found.name for found in unused(workspace)}, "it may live elsewhere"


def test_what_a_kill_left_half_removed_goes_next_time(workspace: Path) -> None:
    left = workspace / "annotate" / f"{GONE}length-0000"
    left.mkdir()
    (left / "unit.json").write_text("{}")
    assert all(GONE not in one.name for one in unused(workspace))
    clean(workspace)
    assert not left.exists()


def test_nothing_is_removed_while_a_run_holds_the_workspace(workspace: Path) -> None:
    before = unused(workspace)
    with workspace_lock(workspace, "a run"), pytest.raises(WorkspaceBusyError):
        clean(workspace)
    assert [one.name for one in unused(workspace)] == [one.name for one in before]


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_plan_that_cannot_be_read_stops_it(workspace: Path, text: str) -> None:
    (path,) = workspace.glob("runs/*/plan.json")
    path.write_text(text)
    with pytest.raises(DamagedError, match=r"plan\.json"):
        clean(workspace)
    assert list(workspace.glob("build-*"))


def test_the_command_lists_first_and_removes_only_with_yes(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["clean", "--workspace", str(workspace)]
    assert main(call) == 0
    said = capsys.readouterr().out
    assert "rows that another run could take over" in said
    assert "in 2 folders" in said
    assert "Remove them: --yes" in said
    assert len(list(workspace.glob("build-*"))) == 2
    assert main([*call, "--yes"]) == 0
    assert "removed." in capsys.readouterr().out
    assert len(list(workspace.glob("build-*"))) == 1
    assert main(call) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert main(["clean", "--workspace", str(workspace / "none")]) == 2


def test_sizes_read_as_people_write_them() -> None:
    assert [readable(n) for n in (0, 999, 1500, 2_500_000, 3e12)] == [
        "0 B", "999 B", "1.5 KB", "2.5 MB", "3.0 TB",
    ]  # fmt: skip

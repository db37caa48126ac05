"""The command line as a user meets it: light, clear, with the right exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusechat.cli import main

TINY = Path(__file__).resolve().parent.parent / "recipes" / "tiny.yaml"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "ws"
    assert main(["run", str(TINY), "--workspace", str(folder), "--quiet"]) == 0
    return folder


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


def test_help_and_import_are_free_of_torch_and_of_pydantic() -> None:
    code = (
        "import sys, fusechat\n"
        "from fusechat.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'pyarrow', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_installed_command_finds_parts_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from fusechat.annotators.length import Length\nclass Mine(Length):\n    'Mine.'\n"
    )
    text = TINY.read_text().replace("length: {}", "length: {use: 'mine:Mine'}")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text.replace("tiny-prompts", str(TINY.parent / "tiny-prompts")))
    code = "from fusechat.cli import console; console()"
    command = [sys.executable, "-P", "-c", code, "check", "r.yaml"]
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert "no faults" in done.stdout, done.stderr


def test_check_shows_the_plan_and_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, "check", TINY, "--workspace", tmp_path)
    assert out.startswith("new     prompts")
    assert f"no faults. Next: fusechat run {TINY} --workspace {tmp_path}" in out
    changed = printed(capsys, "check", TINY, "--workspace", tmp_path, "--set", "seed=7")
    assert f"Next: fusechat run {TINY} --set seed=7 --workspace {tmp_path}" in changed
    assert not list(tmp_path.iterdir()), "check wrote something"


def test_check_after_a_run_says_that_all_is_done_and_why_a_unit_would_run(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "5 done, 0 to run." in printed(capsys, "check", TINY, "--workspace", workspace)
    out = printed(
        capsys, "check", TINY, "--workspace", workspace, "--set", "build.chat.dpo.min_margin=0.05"
    )
    assert "min_margin changed the default -> 0.05" in out
    rows = json.loads(printed(capsys, "check", TINY, "--workspace", workspace, "--json"))
    assert {row["state"] for row in rows["units"]} == {"done"}


def test_faults_exit_with_2_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text(TINY.read_text().replace("best_of", "best_off"))
    assert main(["run", str(tmp_path / "r.yaml"), "--workspace", str(tmp_path / "ws")]) == 2
    err = capsys.readouterr().err
    assert "r.yaml:15  build.chat.sft.use" in err
    assert "Did you mean 'best_of'?" in err
    assert err.rstrip().endswith("nothing was run.")
    assert not (tmp_path / "ws").exists()


def test_show_explains_one_prompt(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = printed(capsys, "show", "build", "--table", "dpo", "--json", "--workspace", workspace)
    pair = json.loads(rows.splitlines()[0])
    out = printed(
        capsys, "show", "build", "--prompt", pair["prompt_id"][:6], "--workspace", workspace
    )
    assert "8 responses" in out
    assert pair["chosen_id"] in out
    assert pair["rejected_id"] in out
    assert "In DPO by the rule filter_then_share" in out


@pytest.mark.parametrize("unit", ["prompts", "sample/parrot", "annotate/length", "build"])
def test_show_prints_rows_of_any_unit(
    unit: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, "show", unit, "--limit", 2, "--workspace", workspace)
    assert "2 of " in out
    assert f"rows of {unit}" in out


def test_show_names_the_units_and_tables_that_there_are(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "biuld", "--workspace", str(workspace)]) == 2
    assert "There are: prompts, sample/parrot" in capsys.readouterr().err
    assert main(["show", "build", "--table", "x", "--workspace", str(workspace)]) == 2
    assert "It has: dpo, dropped, sft." in capsys.readouterr().err
    assert main(["show", "build", "--prompt", "zzzz", "--workspace", str(workspace)]) == 2
    assert "there is no prompt 'zzzz'" in capsys.readouterr().err


def test_status_tells_how_far_a_run_is(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "status", "--workspace", workspace)
    assert "not running" in out
    assert "5 of 5 units are done." in out
    assert main(["status", "--workspace", str(workspace / "nothing")]) == 2


@pytest.mark.parametrize("family", ["sources", "annotators", "strategies", "losses", "tasks"])
def test_list_names_every_part_with_what_it_is(
    family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from fusechat.parts import part_names

    rows = json.loads(printed(capsys, "list", family, "--json"))
    assert [row["name"] for row in rows] == part_names(family)
    assert all(row["what"] for row in rows)


def test_report_and_export_of_a_finished_run(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, "report", TINY, "--workspace", workspace)
    assert Path(out.split("report: ")[1].strip()).is_file()
    out = printed(capsys, "export", tmp_path / "out", "--workspace", workspace)
    assert "dpo.parquet and .jsonl: 8 rows" in out
    rows = (tmp_path / "out" / "dpo.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["chosen"][0]["role"] == "assistant"


def test_a_bad_set_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(TINY), "--set", "seed"]) == 2
    assert "write KEY=VALUE" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error(workspace: Path) -> None:
    command = f"{sys.executable} -m fusechat show sample/parrot --workspace {workspace} | head -1"
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}
    )
    assert "Traceback" not in done.stderr

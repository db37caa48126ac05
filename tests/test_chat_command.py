"""`fusechat chat` as a user calls it: by lines of a pipe, on a page, and wrongly."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.tiny_models import strip_template, tiny_model

from fusechat.cli import main
from fusechat.files import write_json
from tiny_world import ROOT

TARGET = ROOT / "zoo" / "target"
QUICK = ("--max-new-tokens", "8", "--threads", "1", "--dtype", "float32", "--device", "cpu")


def started(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """`fusechat chat ...` with pipes."""
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-m", "fusechat", "chat", *words],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def written_run(workspace: Path, models: dict[str, str], units: Sequence[str]) -> Path:
    """A run's folder as `fusechat run` begins it."""
    named = {name: {"use": "hf", "model": model} for name, model in models.items()}
    planned = [{"name": name, "folder": f"{name}-0"} for name in units]
    write_json(
        workspace / "runs" / "mini-0" / "plan.json",
        {"recipe": "mini", "models": named, "units": planned},
    )
    return workspace


def failed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a wrong call says; nothing may have been loaded."""
    assert main(["chat", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "loading" not in said.err
    return said.err


def test_lines_of_a_pipe_are_answered_one_after_the_other(tmp_path: Path) -> None:
    sum_of = "Tom has 3 apples. He buys 4 more. How many apples does he have?"
    workspace = written_run(tmp_path, {"target": str(TARGET)}, ["train/sft"])
    words = ["target", "--workspace", str(workspace), "--temperature", "0", *QUICK]
    with started(*words, cwd=tmp_path) as process:
        out, err = process.communicate(f"{sum_of}\n/reset\n{sum_of}\n/quit\nnever\n", timeout=120)
    assert process.returncode == 0, err
    one, two = out.splitlines()
    assert one == two != ""
    assert "\033" not in out
    assert "a new conversation" in err


def test_a_page_is_served_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with started(str(TARGET), "--web", *QUICK, cwd=tmp_path) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("chat at http://127.0.0.1:")
        port = int(line.split(":")[2].split("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/")
        assert b"<title>" in connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_all_faults_of_a_call_are_said_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = written_run(tmp_path, {"target": str(TARGET)}, ["train/sft"])
    call = ["train.sft", "--workspace", str(workspace), "--beside", "targt", "--top-p", "0"]
    said = failed(capsys, *call, "--temperature", "-1", "--max-new-tokens", "0")
    for word in (
        "--only train/sft",
        "Did you mean 'target'",
        "--top-p",
        "--temperature",
        "--max-new",
    ):
        assert word in said


def test_a_name_without_a_run_says_what_to_run_and_a_path_where_nothing_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = ["--workspace", str(tmp_path)]
    assert "fusechat run RECIPE" in failed(capsys, "train.sft", *workspace)
    assert "no run 'other'" in failed(capsys, "target", *workspace, "--run", "other")
    assert "there is no model folder at" in failed(capsys, str(tmp_path / "none"), *workspace)


def test_adapters_and_folders_without_template_or_weights_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    write_json(adapter / "adapter_config.json", {"base_model_name_or_path": "org/base"})
    assert "adapters only, over org/base" in failed(capsys, str(adapter))
    bare = strip_template(tiny_model(tmp_path / "bare", "llama"))
    assert "no chat template" in failed(capsys, str(bare))
    (bare / "tokenizer.json").unlink()
    assert "has no tokenizer" in failed(capsys, str(bare))
    (bare / "model.safetensors").unlink()
    assert "has no weights" in failed(capsys, str(bare))


def test_a_system_message_for_a_template_without_that_role_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gemma = tiny_model(tmp_path / "gemma", "gemma2")
    assert "has no system role" in failed(capsys, str(gemma), "--system", "be kind")


def test_the_same_model_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "is there twice" in failed(capsys, str(TARGET), "--beside", str(TARGET))


def test_a_page_has_a_trained_models_base_beside_it_unless_that_is_not_wanted(
    tmp_path: Path,
) -> None:
    from fusechat.cli import _parser
    from fusechat.commands_chat import _wanted

    workspace = written_run(tmp_path, {"target": str(TARGET)}, ["train/sft"])

    def shown(*words: str) -> list[str]:
        return _wanted(_parser().parse_args(["chat", *words, "--workspace", str(workspace)]))

    assert shown("train.sft", "--web") == ["train.sft", "target"]
    assert shown("train.sft", "--web", "--beside", "none") == ["train.sft"]
    assert shown("target", "--web") == ["target"]
    assert shown("train.sft") == ["train.sft"]
    assert shown("train.sft", "--beside", "target") == ["train.sft", "target"]


def test_a_name_of_the_run_goes_before_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusechat.cli import _parser
    from fusechat.commands_chat import find_model

    written_run(tmp_path / "workspace", {"target": str(TARGET)}, [])
    (tmp_path / "target").mkdir()
    monkeypatch.chdir(tmp_path)
    options = _parser().parse_args(["chat", "target"])
    assert find_model("target", options) == TARGET
    assert find_model("./target", options) == tmp_path / "target"

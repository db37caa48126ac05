"""`fusechat score NAME`: its names are found by file, a wrong one gets the nearest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alpaca_cases import judgments, write_files
from fusechat.cli import main
from fusechat.commands_score import names


def test_every_stored_kind_is_found_by_its_file() -> None:
    assert "alpaca_eval_2" in names()
    assert not any(name.startswith("score_") for name in names())


def test_a_wrong_name_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "alpaca_eval", "some.json"]) == 2
    told = capsys.readouterr().err
    assert "no stored judgments are named 'alpaca_eval'. Did you mean 'alpaca_eval_2'?" in told


def test_it_prints_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_files(tmp_path)
    path = judgments(tmp_path / "mine.json", [1.3, 1.9, 1.1, 1.6, 2, 1])
    assert main(["score", "alpaca_eval_2", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 6
    assert main(["score", "alpaca_eval_2", str(path), "--against", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["agreement"] == 1.0


def test_the_help_loads_no_solver() -> None:
    code = (
        "import sys\nfrom fusechat.cli import main\n"
        "try:\n    main(['score', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'sklearn', 'scipy', 'torch', 'numpy'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stderr.strip() == "[]"
    assert "--against" in found.stdout

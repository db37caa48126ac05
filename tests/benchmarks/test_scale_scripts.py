"""The scripts behind docs/scale.md run, and their numbers fit together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def script(name: str, *arguments: str) -> str:
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), *arguments],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_measured_unit_costs_feed_the_simulator(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    told = script("unit_costs.py", "--prompts", "20", "--samples", "2", "--out", str(out))
    assert "| sample |" in told
    costs = json.loads(out.read_text(encoding="utf-8"))
    numbers = [value for value in costs.values() if isinstance(value, (int, float))]
    assert numbers
    small = script("scale_simulator.py", "--costs", str(out), "--gpus", "8")
    large = script("scale_simulator.py", "--costs", str(out), "--gpus", "16")
    assert small != large, "twice the GPUs change the forecast"

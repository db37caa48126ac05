"""Running the program as a user does, and what is compared after: shared by the kill tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

KEPT = (".parquet", ".safetensors", "metrics.json", "metrics.jsonl", "benchmarks.json")


def results(workspace: Path) -> dict[str, bytes]:
    """Every table, model and metric of a workspace, by path; checkpoints are working files."""
    return {
        str(path.relative_to(workspace)): path.read_bytes()
        for path in sorted(workspace.rglob("*"))
        if path.name.endswith(KEPT) and "checkpoints" not in path.parts
    }


def start(recipe: Path, workspace: Path, **environment: str) -> subprocess.Popen[str]:
    """A run in a session of its own, so that a kill takes its workers along."""
    command = [sys.executable, "-m", "fusechat", "run", str(recipe), "--workspace", str(workspace)]
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": paths} | environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(recipe: Path, workspace: Path, **environment: str) -> tuple[int, str]:
    """Run to the end (or to the kill); the exit code and all that was printed."""
    with start(recipe, workspace, **environment) as process:
        out, _ = process.communicate(timeout=240)
    return process.returncode, out

"""The report: one self-contained HTML page about one run."""

from __future__ import annotations

from pathlib import Path

from fusechat import files
from fusechat.report.collect import collect
from fusechat.report.render import render


def write(run_folder: Path, workspace: Path) -> Path:
    """Write `report.html` into a run's folder (with `plan.json` in it) and give its path.

    Units that are not done yet are left out, so that it can be written at any point of a run.
    Raises `FileNotFoundError` where the folder has no `plan.json`.
    """
    path = run_folder / "report.html"
    files.write_atomic(path, render(collect(run_folder, workspace)).encode("utf-8", "replace"))
    return path

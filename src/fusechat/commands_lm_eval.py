"""The command `fusechat lm-eval`: the objective benchmarks as tasks of lm-eval."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fusechat.commands_data import named_benchmarks
from fusechat.errors import Fault, RecipeError
from fusechat.exports.lm_eval import Exported, export_lm_eval


def lm_eval(options: argparse.Namespace) -> int:
    """Write the tasks and say what was skipped; exit code 1 where no task could be written."""
    names = named_benchmarks(options.benchmarks)
    out, data_dir = Path(options.out), options.data_dir
    faults = []
    if options.take is not None and options.take < 1:
        faults.append(Fault("", "--take", f"{options.take} is too few: 1 or more."))
    if data_dir is not None and not Path(data_dir).is_dir():
        faults.append(Fault("", "--data-dir", f"there is no folder {data_dir}."))
    if out.exists() and not out.is_dir():
        faults.append(Fault("", "OUT", f"{out} is a file. Name a folder."))
    if faults:
        raise RecipeError(faults)
    folder = None if data_dir is None else str(Path(data_dir).absolute())
    done = export_lm_eval(out, names, folder, take=options.take, family=options.family)
    written = [one for one in done if one.file is not None]
    for one in done:
        print(_line(one))
    if not written:
        print(f"No task was written into {out}.", file=sys.stderr)
        return 1
    print(f"{len(written)} tasks in {out}; how to run them: {out / 'README.md'}")
    return 0


def _line(one: Exported) -> str:
    if one.file is None:
        return f"{one.name}: skipped: {one.skipped}"
    left = f" ({one.left_out:,} rows left out)" if one.left_out else ""
    return f"{one.name}: {one.items:,} items{left}"

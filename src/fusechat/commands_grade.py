"""`fusechat grade`: run an annotator over a user's own file, one JSON object a line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any


def grade(options: argparse.Namespace) -> int:
    """Print one verdict a line, in the file's order; exit code 0 says only that all were given.

    130 where it is interrupted; nothing is remembered between two commands.
    """
    told = 0
    try:
        for verdict in _verdicts(options):
            print(json.dumps(verdict, ensure_ascii=False), flush=True)
            told += 1
    except KeyboardInterrupt:
        print(
            f"\ninterrupted after {told} verdicts. The same command starts with the first row "
            "again; give it a file of the rows behind them to go on.",
            file=sys.stderr,
        )
        return 130
    return 0


def _verdicts(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if options.what == "math":
        from fusechat.grading import math_pairs

        return math_pairs.grade(options.file)
    from fusechat.grading import code_samples

    return code_samples.grade(
        options.file,
        options.task,
        options.data_dir,
        strict=options.strict,
        allow_weak_sandbox=options.allow_weak_sandbox,
    )

"""`fusechat grade`: run an annotator over a user's own file, one JSON object a line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any


def grade(options: argparse.Namespace) -> int:
    """Print one verdict a line, in the file's order; exit code 0 says only that all were given."""
    for verdict in _verdicts(options):
        print(json.dumps(verdict, ensure_ascii=False), flush=True)
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

"""`fusechat worker`: compute shards of one unit beside a run, on any machine of the workspace."""

from __future__ import annotations

import argparse
import os
import sys

from fusechat.commands import _load
from fusechat.planner import plan
from fusechat.recipe import load_cluster
from fusechat.workers import work


def worker(options: argparse.Namespace) -> int:
    """Take shards until none is left; the run that closes the unit is another process."""
    recipe, _ = _load(options)
    units = [unit.name for unit in plan(recipe, options.workspace).units]
    work(
        recipe,
        options.workspace,
        options.unit,
        cluster=load_cluster(options.cluster, units),
        stream=None if options.quiet else sys.stderr,
    )
    if os.environ.get("RANK", "0") == "0":
        print(f"{options.unit}: nothing is left to do here. Close it with: fusechat run ...")
    return 0

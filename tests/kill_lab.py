"""Runs a small recipe of stub parts again and again, killing it at random moments.

A program of its own (`python kill_lab.py FOLDER KILLS SEED`), so that it may fork: each run is a
child in a session of its own, and starts in milliseconds. Odd kills come at a fault point, even
ones at a random time. Prints what happened, as JSON.
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import fusechat.report
import fusechat.stages.build
import fusechat.stages.rowwise
import fusechat.unit_contexts
from fusechat.executors.rows import RowJob
from fusechat.recipe import read_recipe
from fusechat.runner import run
from running import results
from stub_parts import Inline

PROMPTS, SAMPLES, SOURCES, SHARD_ROWS = 30, 4, 2, 20
IN_FLIGHT = 16
"""Rows that a run hands out before it journals any: one chunk."""
PLACES, SECONDS = 70, 0.25
"""A kill comes at the latest after so many fault points, or so much time."""
RECIPE = """
name: killed
seed: 3
prompts: {set: {use: files, path: prompts.jsonl, domain: chat}}
sources:
  one: {use: "stub_parts:Counted", samples: 4}
  two: {use: "stub_parts:Counted", samples: 4, mark: "??"}
annotators:
  length: {use: "stub_parts:CountedLength"}
build:
  chat:
    split: {rule: filter_then_share, sft_share: 0.4}
    sft: {use: best_of, by: length}
    dpo: {use: same_source_margin, by: length, min_margin: 0.01, max_margin: 9.0}
"""


def child(recipe: Path, workspace: Path, kill_at: int | None) -> int:
    """A run of its own; the child's process id."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setsid()
        if kill_at is not None:
            os.environ["FUSECHAT_KILL_AT"] = f"*:{kill_at}"
        os.environ["FUSECHAT_TEST_TALLY"] = f"{workspace}.tally"
        fusechat.unit_contexts.open_executor = lambda *_: Inline()  # type: ignore[assignment]
        fusechat.stages.rowwise.RowJob = functools.partial(RowJob, shard_rows=SHARD_ROWS)  # type: ignore[assignment,misc]
        loaded, faults, _ = read_recipe(recipe, {})
        assert loaded is not None, faults
        run(loaded, workspace)
        code = 0
    except BaseException:  # noqa: BLE001 - said by the exit code, after a fork
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """The child's exit code, -9 where it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def attempt(recipe: Path, workspace: Path, draw: random.Random, number: int) -> int:
    """One run that is killed, if it does not end before; its exit code."""
    if number % 2:
        return ended(child(recipe, workspace, draw.randint(1, PLACES)))
    pid = child(recipe, workspace, None)
    time.sleep(draw.uniform(0.0, SECONDS))
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)  # it is not yet in a session of its own, or a zombie
    return ended(pid)


def main() -> None:
    """Kill so many runs, workspace after workspace, and hold each against an unbroken one."""
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    recipe = folder / "killed.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    lines = [json.dumps({"prompt": f"question {i}"}) + "\n" for i in range(PROMPTS)]
    (folder / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    whole = folder / "whole"
    assert ended(child(recipe, whole, None)) == 0
    asked = sorted(Path(f"{whole}.tally").read_text(encoding="utf-8").split())
    draw, done, told = random.Random(seed), 0, []
    while done < kills:
        broken, hit, code = folder / f"broken-{len(told)}", 0, -9
        while code != 0 and done < kills:
            code = attempt(recipe, broken, draw, done)
            assert code in (0, -signal.SIGKILL), f"a run ended with {code}"
            hit += code == -signal.SIGKILL
            done += code == -signal.SIGKILL
        if code != 0:
            assert ended(child(recipe, broken, None)) == 0
        received = sorted(Path(f"{broken}.tally").read_text(encoding="utf-8").split())
        told.append(
            {
                "kills": hit,
                "same": results(broken) == results(whole),
                "asked_all": set(received) == set(asked),
                "excess": len(received) - len(asked),
            }
        )
    print(json.dumps({"rows": len(asked), "twice": len(asked) - len(set(asked)), "runs": told}))


if __name__ == "__main__":
    main()

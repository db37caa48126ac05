"""Code tests: this sandbox against a fresh interpreter for each program, and against EvalPlus.

    python benchmarks/code_tests.py DATA_DIR [--rounds 3] [--tasks 164] [--installed]

DATA_DIR holds HumanEval.jsonl and, for EvalPlus, HumanEvalPlus-v0.1.10.jsonl.gz. The programs
are each task's own solution and two mutants of it. Verdicts are compared first; programs that
meet a time limit are listed and not timed. Then whole passes (the start of the sandbox counted)
are timed one after the other, in turn: processor seconds of this process and all it started.
EvalPlus 0.3.1 joins in where it can be imported; `--installed` adds an interpreter that, as the
sandbox does, finds installed packages.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mutants import mutants, wrong_result

from fusechat.annotators._code_evalplus import plus_tests
from fusechat.sandbox import Limits, Sandbox

SECONDS = 2
LIMITS = Limits(seconds=SECONDS, wall_seconds=6 * SECONDS)
BY_EVALPLUS = "HumanEval/32"
"""Its release (0.3.1) throws the result of this task's oracle away, so that nothing passes."""


@dataclass(frozen=True)
class Program:
    """One program with the tests that judge it, in the form of each runner."""

    name: str
    task_id: str
    code: str
    tests: str


def programs(rows: Sequence[dict[str, Any]], tests: Callable[[Any], str]) -> list[Program]:
    """Each task's solution, its middle mutant, and one with another result."""
    out = []
    for row in rows:
        solution = row["prompt"] + row["canonical_solution"]
        found = list(islice(mutants(solution, row["entry_point"]), 50))
        codes = {"solution": solution, "result": wrong_result(solution, row["entry_point"])}
        if found:
            codes["mutant"] = found[len(found) // 2]
        out += [
            Program(f"{row['task_id']} {kind}", row["task_id"], code, tests(row))
            for kind, code in codes.items()
        ]
    return out


Verdicts = dict[str, str]
Runner = Callable[[Sequence[Program]], Verdicts]


def ours(work: Sequence[Program]) -> Verdicts:
    """One warm worker that forks and confines each program."""
    with Sandbox(LIMITS) as box:
        found = {p.name: box.run(p.code, p.tests).status for p in work}
    return {
        name: {"passed": "pass", "timeout": "timeout"}.get(status, "fail")
        for name, status in found.items()
    }


FRESH = """\
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, 1 << 24))
program, tests = open(sys.argv[1]).read().split("\\x00")
space = {{"__name__": "solution"}}
exec(compile(program, "program", "exec"), space)
exec(compile(tests, "tests", "exec"), space)
"""


def fresh(*options: str) -> Runner:
    """An interpreter for each program, with limits of the kernel and no other protection."""

    def run(work: Sequence[Program]) -> Verdicts:
        found = {}
        with tempfile.TemporaryDirectory() as folder:
            starter, file = Path(folder, "start.py"), Path(folder, "program")
            starter.write_text(FRESH.format(seconds=SECONDS))
            for program in work:
                file.write_text(f"{program.code}\x00{program.tests}")
                ended = subprocess.run(
                    [sys.executable, *options, starter, file],
                    capture_output=True, cwd=folder, timeout=60,
                )  # fmt: skip
                kinds = {0: "pass", -9: "timeout", -24: "timeout"}
                found[program.name] = kinds.get(ended.returncode, "fail")
        return found

    return run


def evalplus(rows: dict[str, Any]) -> Runner | None:
    """EvalPlus's check of base inputs, a process for each program; None where it is absent."""
    try:
        from evalplus.eval import untrusted_check
        from evalplus.gen.util import trusted_exec
    except ImportError:
        return None
    known = {}
    for task_id, row in rows.items():
        solution = row["prompt"] + row["canonical_solution"]
        known[task_id] = trusted_exec(solution, row["base_input"], row["entry_point"], True)

    def check(work: Sequence[Program]) -> Verdicts:
        found = {}
        for program in work:
            row, (expected, seconds) = rows[program.task_id], known[program.task_id]
            found[program.name], _ = untrusted_check(
                "humaneval", program.code, row["base_input"], row["entry_point"], expected,
                row["atol"], seconds, fast_check=True,
            )  # fmt: skip
        return found

    return check


def seconds_used() -> float:
    """Processor seconds of this process and of all that it started and that has ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def compare(title: str, work: list[Program], runners: dict[str, Runner], rounds: int) -> bool:
    """Print how the first runner does against the others; whether their verdicts agree."""
    verdicts = {name: run(work) for name, run in runners.items()}
    mine, *others = verdicts.values()
    kinds = [sum(v == kind for v in mine.values()) for kind in ("pass", "fail", "timeout")]
    print(f"\n### {title}\n\n{len(work)} programs: {kinds[0]} pass, {kinds[1]} fail, "
          f"{kinds[2]} meet the time limit.\n")  # fmt: skip
    differ, slow = [], set()
    for program in work:
        found = [v[program.name] for v in verdicts.values()]
        if "timeout" in found:
            slow.add(program.name)
        elif len(set(found)) > 1:
            differ.append((program, found))
    for name in sorted(slow):
        print(f"- not timed: {name}: {', '.join(v[name] for v in verdicts.values())}")
    for program, found in differ:
        print(f"- verdicts differ: {program.name}: {', '.join(found)}")
    if any(program.task_id != BY_EVALPLUS for program, _ in differ) or not others:
        print("\nThe verdicts differ, so nothing was timed.")
        return False
    timed = [program for program in work if program.name not in slow]
    used: dict[str, list[float]] = {name: [] for name in runners}
    clock: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, run in runners.items():
            before, began = seconds_used(), time.monotonic()
            run(timed)
            used[name].append(seconds_used() - before)
            clock[name].append(time.monotonic() - began)
    print_table(used, clock, len(timed))
    return True


def print_table(used: dict[str, list[float]], clock: dict[str, list[float]], programs: int) -> None:
    """Medians over rounds, and each runner's ratio to the first, round by round."""
    mine = next(iter(used.values()))
    print("\n| runner | CPU ms a program | wall ms a program | CPU, times ours (min-max) |")
    print("|---|---:|---:|---:|")
    for name, seconds in used.items():
        ratios = sorted(theirs / own for theirs, own in zip(seconds, mine, strict=True))
        cpu, wall = (statistics.median(s) / programs * 1e3 for s in (seconds, clock[name]))
        ratio = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f}-{ratios[-1]:.1f})"
        print(f"| {name} | {cpu:.1f} | {wall:.1f} | {ratio} |")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, packed or not."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=164)
    parser.add_argument("--installed", action="store_true")
    options = parser.parse_args()
    with Sandbox(LIMITS) as box:
        level, means = box.level, box.means
    print(f"Command: `python benchmarks/code_tests.py DATA_DIR --rounds {options.rounds} "
          f"--tasks {options.tasks}`. {len(os.sched_getaffinity(0))} cores, "
          f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}. "
          f"Sandbox level: {level} ({means}).")  # fmt: skip
    rows = read(options.data_dir / "HumanEval.jsonl")[: options.tasks]
    work = programs(rows, lambda row: f"{row['test']}\ncheck({row['entry_point']})\n")
    runners: dict[str, Runner] = {
        f"this sandbox ({level})": ours,
        "`python -I -S` each, limits only": fresh("-I", "-S"),
    }
    if options.installed:
        runners["`python -I` each (installed packages can be imported, as here)"] = fresh("-I")
    agree = compare("HumanEval, its own tests", work, runners, options.rounds)
    plus = options.data_dir / "HumanEvalPlus-v0.1.10.jsonl.gz"
    if not plus.exists():
        print(f"\nEvalPlus left out: there is no {plus.name} in DATA_DIR.")
        return 0 if agree else 1
    base = {row["task_id"]: row | {"plus_input": []} for row in read(plus)[: options.tasks]}
    theirs = evalplus(base)
    if theirs is None:
        print("\nEvalPlus left out: it is not installed (pip install evalplus==0.3.1).")
        return 0 if agree else 1
    work = programs(list(base.values()), lambda row: plus_tests(row["task_id"], row))
    runners = {f"this sandbox ({level})": ours, "EvalPlus 0.3.1": theirs}
    return 0 if compare("HumanEval+, base inputs", work, runners, options.rounds) and agree else 1


if __name__ == "__main__":
    sys.exit(main())

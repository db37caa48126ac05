"""Grading mathematics against one-by-one math-verify, on real GSM8K solutions.

    python benchmarks/math_grading.py POOL.jsonl [--problems 200] [--rounds 3]

POOL is `gsm8k_model_solutions.jsonl` of openai/grade-school-math: four solutions a problem,
repeated five times here, so that each problem has 20 responses as in a pool of samples. The
peer is math-verify's own documented use in one process: `verify(parse(gold), parse(answer))`,
once on the whole responses and once on the final answers that ours extracts. Ours is what
`fusechat grade math` runs. Every variant is a fresh process, start and imports included; CPU
is that of the process and its children. Verdicts are compared before any time is told.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESPONSES = 20
VARIANTS = {
    "peer": "math-verify one by one, whole responses",
    "peer-extracted": "math-verify one by one, extracted answers",
    "ours": "fusechat, all",
    "ours-one-child": "fusechat, one child process",
    "ours-no-numbers": "fusechat, all compared by math-verify",
    "ours-no-cache": "the same, without the cache of verdicts",
}


def rows_of(pool: Path, problems: int) -> list[dict[str, str]]:
    """`gold` (the whole reference solution) and `pred` (a response), 20 a problem."""
    rows = []
    for line in pool.read_text(encoding="utf-8").splitlines()[:problems]:
        problem = json.loads(line)
        solutions = [value["solution"] for value in problem.values() if isinstance(value, dict)]
        for number in range(RESPONSES):
            pred = solutions[number % len(solutions)]
            rows.append({"gold": problem["ground_truth"], "pred": pred})
    return rows


def peer(rows: list[dict[str, str]], extracted: bool) -> list[bool | None]:
    """math-verify as its documentation calls it."""
    from math_verify import parse, verify

    from fusechat.annotators.math_answer import final_answer, gold_answer

    verdicts: list[bool | None] = []
    for row in rows:
        gold = rf"\boxed{{{gold_answer(row['gold'])}}}"
        stated = final_answer(row["pred"]) if extracted else None
        answer = rf"\boxed{{{stated}}}" if stated else "" if extracted else row["pred"]
        verdicts.append(verify(parse(gold), parse(answer)))
    return verdicts


def ours(pairs: Path, variant: str) -> list[bool | None]:
    """`fusechat grade math`; some variants switch off what makes it fast."""
    from fusechat.annotators import _math_judge
    from fusechat.grading.math_pairs import grade

    if variant in ("ours-no-numbers", "ours-no-cache"):
        _math_judge._by_text = lambda gold, answer: None
    if variant == "ours-no-cache":
        _math_judge.MathJudge._ask = lambda self, gold, answer: self._pool.submit(gold, answer)
    workers = 1 if variant == "ours-one-child" else None
    return [row["equal"] for row in grade(pairs, workers)]


def run_variant(variant: str, pairs: Path, out: Path) -> None:
    """What a fresh process does: one variant, its verdicts written to `out`."""
    rows = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()]
    if variant.startswith("peer"):
        verdicts = peer(rows, extracted=variant == "peer-extracted")
    else:
        verdicts = ours(pairs, variant)
    out.write_text(json.dumps(verdicts))


def measured(variant: str, pairs: Path, out: Path) -> tuple[float, float]:
    """CPU and wall seconds of one variant in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, __file__, str(pairs), "--variant", variant, "--out", str(out)], check=True
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall


def differences(rows: list[dict[str, str]], verdicts: dict[str, list[Any]]) -> dict[str, int]:
    """How many verdicts of each variant are not ours; the first of each are printed."""
    found = {}
    for variant, own in verdicts.items():
        other = [i for i, pair in enumerate(zip(own, verdicts["ours"], strict=True))
                 if pair[0] != pair[1]]  # fmt: skip
        found[variant] = len(other)
        seen = set()
        for index in other:
            told = (rows[index]["gold"][-30:], rows[index]["pred"][-60:])
            if told not in seen and len(seen) < 10:
                seen.add(told)
                print(f"{variant} says {own[index]}, ours {verdicts['ours'][index]}: {told}")
    return found


def main() -> None:
    """Compare verdicts, then time all variants in interleaved rounds; prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        run_variant(options.variant, options.pool, options.out)
        return
    rows = rows_of(options.pool, options.problems)
    with tempfile.TemporaryDirectory() as folder:
        pairs, out = Path(folder) / "pairs.jsonl", Path(folder) / "verdicts.json"
        pairs.write_text("\n".join(json.dumps(row) for row in rows))
        times: dict[str, list[tuple[float, float]]] = {variant: [] for variant in VARIANTS}
        verdicts: dict[str, list[Any]] = {}
        for _ in range(options.rounds):
            for variant in VARIANTS:
                times[variant].append(measured(variant, pairs, out))
                verdicts[variant] = json.loads(out.read_text())
    report(rows, times, differences(rows, verdicts), options.rounds)


def report(
    rows: list[dict[str, str]],
    times: dict[str, list[tuple[float, float]]],
    differ: dict[str, int],
    rounds: int,
) -> None:
    """The table; a variant whose verdicts differ gets no ratio."""
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("math-verify", "sympy", "antlr4-python3-runtime")
    )
    cores = len(os.sched_getaffinity(0))
    print(f"\n{len(rows)} pairs, {rounds} rounds, {cores} cores of {platform.machine()}, Python "
          f"{platform.python_version()}, {versions}; median (min to max)\n")  # fmt: skip
    print("| variant | other verdicts | CPU s | wall s | CPU ratio to peer | wall ratio |")
    print("|---|---|---|---|---|---|")
    for variant, told in VARIANTS.items():
        cpu, wall = zip(*times[variant], strict=True)
        ratios = [
            [one[k] / two[k] for one, two in zip(times["peer"], times[variant], strict=True)]
            for k in (0, 1)
        ]
        same = differ[variant] == differ["peer"] == 0
        shown = [spread(r, "x") if same else "-" for r in ratios]
        print(f"| {told} | {differ[variant]} | {spread(cpu)} | {spread(wall)} | {shown[0]} | "
              f"{shown[1]} |")  # fmt: skip


def spread(values: Any, unit: str = "") -> str:
    """Median with minimum and maximum."""
    return f"{statistics.median(values):.1f}{unit} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()

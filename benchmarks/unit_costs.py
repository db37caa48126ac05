"""What a row takes apart from the models: CPU, disk, files, fsyncs, memory.

    python benchmarks/unit_costs.py [--prompts 1000] [--samples 5] [--texts FILE] [--out FILE]

Runs the data half on stored responses (`given`), once with N prompts and once with 4 N, step by
step in this process; what a row takes is the slope between the two, so that starts and imports
are not in it. Texts are made (190 and 430 tokens of 4 bytes) or, with `--texts`, come from a
JSONL file with the columns `prompt` and `responses` (a list of `--samples` texts), of which
the first 4 N rows are used. CPU of the writing process and of its worker are apart. `--out`:
the numbers as JSON, for `benchmarks/scale_simulator.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

BUILD = {
    "chat": {
        "split": {"rule": "filter_then_share"},
        "sft": {"use": "best_of", "by": "length"},
        "dpo": {"use": "same_source_margin", "by": "length", "min_margin": 0.1, "max_margin": 1e9},
    }
}


def made_rows(count: int, samples: int) -> Iterator[dict[str, Any]]:
    """Prompts of about 760 bytes with responses of about 1,720, words as frequent as in prose."""
    draw = random.Random(0)
    letters = "eeeettaaooiinnsshhrrddllucmwfgypbvk"
    words = ["".join(draw.choices(letters, k=draw.randint(1, 10))) for _ in range(20_000)]
    weights = [1 / (rank + 2) for rank in range(len(words))]

    def text(size: float) -> str:
        wanted = max(4, int(size * draw.lognormvariate(-0.08, 0.4) / 6.0))
        return " ".join(draw.choices(words, weights, k=wanted))

    for number in range(count):
        yield {
            "prompt": f"{number} {text(760)}",
            "responses": [text(1720) for _ in range(samples)],
        }


def write_texts(options: argparse.Namespace, folder: Path) -> Path:
    """The JSONL of prompts and responses that is used."""
    wanted = 4 * options.prompts
    path = folder / "texts.jsonl"
    rows: Iterator[dict[str, Any]] = made_rows(wanted, options.samples)
    if options.texts:
        with options.texts.open(encoding="utf-8") as lines:
            rows = iter([json.loads(line) for _, line in zip(range(wanted), lines, strict=False)])
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            used = {"prompt": row["prompt"], "responses": row["responses"][: options.samples]}
            out.write(json.dumps(used, ensure_ascii=False) + "\n")
    return path


def recipe_of(folder: Path, texts: Path, count: int, source: str) -> Path:
    """A recipe on the first `count` rows."""
    own = folder / f"first-{count}.jsonl"
    if not own.exists():
        with texts.open(encoding="utf-8") as lines:
            own.write_text("".join(line for _, line in zip(range(count), lines, strict=False)))
    tree = {
        "name": f"costs-{source}",
        "prompts": {"texts": {"use": "files", "path": str(own), "domain": "chat"}},
        "sources": {source: {"use": "given", "path": str(own), "responses": "responses"}},
        "annotators": {"length": {}},
        "build": BUILD,
    }
    path = folder / f"{source}-{count}.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


class Fsyncs:
    """Counts `os.fsync` and the wall seconds in it."""

    def __init__(self) -> None:
        self.count, self.seconds, self._real = 0, 0.0, os.fsync

    def __call__(self, descriptor: Any) -> None:
        begun = time.perf_counter()
        self._real(descriptor)
        self.seconds += time.perf_counter() - begun
        self.count += 1


def cpu(who: int) -> float:
    """User and system seconds so far."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def measured(work: Callable[[], Any], fsyncs: Fsyncs) -> dict[str, float]:
    """CPU of this process and of ended children, fsyncs and their wall seconds."""
    before = cpu(resource.RUSAGE_SELF), cpu(resource.RUSAGE_CHILDREN), fsyncs.count, fsyncs.seconds
    work()
    after = cpu(resource.RUSAGE_SELF), cpu(resource.RUSAGE_CHILDREN), fsyncs.count, fsyncs.seconds
    names = ("cpu", "worker_cpu", "fsyncs", "fsync_seconds")
    return {name: b - a for name, a, b in zip(names, before, after, strict=True)}


def run_steps(folder: Path, texts: Path, count: int, fsyncs: Fsyncs) -> dict[str, dict[str, float]]:
    """Each step of a run on `count` prompts, and what it left on disk."""
    from fusechat.recipe import Cluster, load_recipe
    from fusechat.runner import Options, run

    folder.mkdir(exist_ok=True)
    workspace = folder / f"workspace-{count}"
    cluster = Cluster.model_validate({"default": {"processes": 1}})
    found: dict[str, dict[str, float]] = {}
    first, second = (load_recipe(recipe_of(folder, texts, count, name)) for name in ("a", "b"))
    steps = [
        ("prompts", first, "prompts"),
        ("sample", first, "sample/a"),
        ("adopt", second, "sample/b"),
        ("annotate", first, "annotate/length"),
        ("build", first, "build"),
    ]
    for name, recipe, only in steps:
        done: list[Any] = []

        def work(recipe: Any = recipe, only: str = only, done: list[Any] = done) -> None:
            done.append(run(recipe, workspace, cluster=cluster, options=Options(only=only)))

        found[name] = measured(work, fsyncs)
        unit = done[0].plan[only]
        place = workspace / unit.folder
        files = list(place.rglob("*.parquet"))
        found[name] |= {"bytes": sum(p.stat().st_size for p in files), "files": len(files)}
    return found


def prompt_memory(texts: Path, count: int) -> float:
    """Bytes a prompt at the peak of reading a set (traced, without the interpreter's own)."""
    from fusechat.parts import load_part
    from fusechat.records import Prompt

    part = load_part("tasks", {"use": "files", "path": str(texts)})
    tracemalloc.start()
    kept = {row.id: row for row in part.prompts(part.splits[0]) if isinstance(row, Prompt)}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / min(count, len(kept))


def main(options: argparse.Namespace) -> int:
    """Measure and print."""
    fsyncs = Fsyncs()
    os.fsync = fsyncs
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="unit-costs-") as name:
        folder = Path(name)
        texts = write_texts(options, folder)
        run_steps(folder / "warm", texts, 20, fsyncs)
        small = run_steps(folder, texts, options.prompts, fsyncs)
        large = run_steps(folder, texts, 4 * options.prompts, fsyncs)
        memory = prompt_memory(folder / f"first-{options.prompts}.jsonl", options.prompts)
    per = {step: _slope(step, small, large, options) for step in small}
    numbers = _numbers(per, memory)
    _print(per, memory, options)
    if options.out:
        options.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    return 0


def _slope(step: str, small: Any, large: Any, options: argparse.Namespace) -> dict[str, float]:
    rows = 3 * options.prompts * (1 if step == "prompts" else options.samples)
    return {name: (large[step][name] - small[step][name]) / rows for name in small[step]}


def _numbers(per: dict[str, dict[str, float]], memory: float) -> dict[str, float]:
    """As `UnitCosts` of the simulator takes them."""
    sample = per["sample"]
    return {
        "sample_cpu": sample["cpu"],
        "adopt_cpu": per["adopt"]["cpu"],
        "annotate_cpu": per["annotate"]["cpu"],
        "build_cpu": per["build"]["cpu"],
        "response_bytes": sample["bytes"],
        "score_bytes": per["annotate"]["bytes"],
        "prompt_memory": memory,
        "fsyncs_per_row": sample["fsyncs"],
        "annotate_fsyncs_per_row": per["annotate"]["fsyncs"],
        "fsync_seconds": sample["fsync_seconds"] / max(sample["fsyncs"], 1e-9),
    }


def _print(per: dict[str, dict[str, float]], memory: float, options: argparse.Namespace) -> None:
    source = options.texts.name if options.texts else "made texts"
    print(f"Command: python benchmarks/unit_costs.py {' '.join(sys.argv[1:])}\n"
          f"Machine: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}; python "
          f"{platform.python_version()}, pyarrow {pa.__version__}. Load {os.getloadavg()[0]:.1f}. "
          f"Texts: {source}, {options.samples} responses a prompt; slope between "
          f"{options.prompts:,} and {4 * options.prompts:,} prompts.\n")  # fmt: skip
    print(
        "| a row of | writer's CPU, microseconds | worker's CPU | bytes on disk | fsyncs | files |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for step, found in per.items():
        what = "prompts (a prompt)" if step == "prompts" else step
        cpu_of = [f"{1e6 * found[name]:,.0f}" for name in ("cpu", "worker_cpu")]
        rest = [f"{found['bytes']:,.0f}", f"{found['fsyncs']:.4f}", f"{found['files']:.5f}"]
        print(f"| {' | '.join([what, *cpu_of, *rest])} |")
    wall = per["sample"]["fsync_seconds"] / max(per["sample"]["fsyncs"], 1e-9)
    print(f"\nAn fsync while sampling takes {1e3 * wall:.2f} ms of wall time on this disk. "
          f"Reading prompts holds {memory:,.0f} bytes a prompt.")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="what a row takes apart from the models")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--texts", type=Path, help="JSONL with `prompt` and `responses`")
    parser.add_argument("--folder", type=Path, help="where the workspaces are made")
    parser.add_argument("--out", type=Path, help="the numbers as JSON")
    sys.exit(main(parser.parse_args()))

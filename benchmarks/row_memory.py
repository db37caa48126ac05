"""Memory and CPU of row-wise work at n and at 10 n rows, with parts that cost nothing.

    python benchmarks/row_memory.py [--rows 20000] [--against OTHER/src]

Samples with `echo` and annotates with `length`, each in a process of its own and without the
report that a run writes at its end, and prints the run's peak memory, the ratio of both sizes,
and CPU per row. `--against` measures another version of
the package in turn, its rows compared first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent / "src"
SAMPLES, FACTOR = 4, 10
UNITS = ("sample/parrot", "annotate/length")
RECIPE = """
name: memory
seed: 1
prompts: {set: {use: files, path: prompts.jsonl, domain: chat}}
sources: {parrot: {use: echo, samples: 4}}
annotators: {length: {}}
"""


def measure(recipe: Path, workspace: Path, unit: str) -> None:
    """Run one unit in this process; prints peak memory and CPU (workers' CPU included)."""
    import fusechat.runner
    from fusechat.recipe import read_recipe
    from fusechat.runner import Options, run

    fusechat.runner.write_report = lambda planned, folder: folder  # it is no row-wise work

    loaded, faults, _ = read_recipe(recipe, {})
    assert loaded is not None, faults
    before = resource.getrusage(resource.RUSAGE_SELF)
    run(loaded, workspace, options=Options(only=unit))
    own = resource.getrusage(resource.RUSAGE_SELF)
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = own.ru_utime + own.ru_stime - before.ru_utime - before.ru_stime
    said = {
        "peak_mb": own.ru_maxrss / 1024,
        "worker_mb": workers.ru_maxrss / 1024,
        "cpu": cpu + workers.ru_utime + workers.ru_stime,
        "own_cpu": cpu,
    }
    print(json.dumps(said))


def in_process(source: Path, folder: Path, unit: str) -> dict[str, float]:
    """`measure` with one version of the package."""
    command = [sys.executable, __file__, "--measure", str(folder), unit, source.parent.name]
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows_of(workspace: Path, unit: str) -> list[dict[str, Any]]:
    """A unit's table, read without this package, over the columns that every version has."""
    import pyarrow.parquet as pq

    name = "index" if unit.startswith("sample") else "value"
    files = sorted(workspace.glob(f"{unit}-*/data/*.parquet"))
    columns = ["made_from", name]
    return [row for path in files for row in pq.read_table(path, columns=columns).to_pylist()]


def write_inputs(folder: Path, prompts: int) -> None:
    """A recipe and its prompts."""
    folder.mkdir(parents=True)
    (folder / "memory.yaml").write_text(RECIPE, encoding="utf-8")
    filler = " and some words more" * 20
    with (folder / "prompts.jsonl").open("w", encoding="utf-8") as handle:
        for number in range(prompts):
            handle.write(json.dumps({"prompt": f"Question {number}{filler}"}) + "\n")


def main() -> None:
    """Measure both sizes (of both versions) and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="responses at the small size")
    parser.add_argument("--against", type=Path, help="the src folder of another version")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        folder, unit, version = options.measure
        measure(Path(folder) / "memory.yaml", Path(folder) / f"ws-{version}", unit)
        return
    versions = {"this": HERE} | ({"other": options.against.resolve()} if options.against else {})
    found: dict[tuple[str, str, int], dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for size in (options.rows, options.rows * FACTOR):
            folder = Path(scratch) / str(size)
            write_inputs(folder, size // SAMPLES)
            for source in versions.values():
                in_process(source, folder, "prompts")
            for unit in UNITS:
                for name, source in versions.items():
                    found[name, unit, size] = in_process(source, folder, unit)
                tables = [rows_of(folder / f"ws-{s.parent.name}", unit) for s in versions.values()]
                assert all(table == tables[0] for table in tables), f"{unit}: other rows"
                assert len(tables[0]) == size
    show(found, options.rows, list(versions))


def show(found: dict[tuple[str, str, int], dict[str, float]], rows: int, names: list[str]) -> None:
    """The results as a Markdown table."""
    print(
        f"{platform.platform()}, Python {platform.python_version()}; python {' '.join(sys.argv)}\n"
    )
    print(f"| version | unit | MB at {rows} | MB at {rows * FACTOR} | ratio | us CPU/row | own |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        for unit in UNITS:
            small, large = found[name, unit, rows], found[name, unit, rows * FACTOR]
            ratio = large["peak_mb"] / small["peak_mb"]
            more = rows * (FACTOR - 1)
            whole, own = (1e6 * (large[k] - small[k]) / more for k in ("cpu", "own_cpu"))
            print(
                f"| {name} | {unit} | {small['peak_mb']:.0f} | {large['peak_mb']:.0f} | "
                f"{ratio:.2f} | {whole:.0f} | {own:.0f} |"
            )


if __name__ == "__main__":
    main()

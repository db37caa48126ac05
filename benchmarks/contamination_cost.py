"""What the contamination ledger costs: CPU seconds for its index, and for each text.

    python benchmarks/contamination_cost.py --benchmarks FOLDER --texts pool.json [--column output]

FOLDER: files of benchmarks (`.jsonl`, `.json`, `.parquet`), each one benchmark. Before anything is
timed, a question of each benchmark must find itself.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path

from fusechat.columns import read_rows
from fusechat.metrics.contamination import HeldOutItems, Item
from fusechat.tasks._benchmarks import FILES, read_items

ROUNDS = 3


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmarks", type=Path, required=True)
    parser.add_argument("--texts", type=Path, nargs="+", required=True)
    parser.add_argument("--column", default="output")
    options = parser.parse_args()
    files = [f for f in sorted(options.benchmarks.rglob("*")) if f.name.endswith(FILES)]
    items = [
        i for f in files for i in read_items(f.name, str(f), None, "", None) if isinstance(i, Item)
    ]
    texts = [row[options.column] for path in options.texts for _, row in read_rows(path)]
    begun = time.process_time()
    known = HeldOutItems(items)
    index = time.process_time() - begun
    for name in {item.benchmark for item in items}:
        first = next(i for i in items if i.benchmark == name and len(i.questions[0]) > 200)
        assert name in [m.item.benchmark for m in known.matches(first.questions[0])], name
    rounds = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        found = sum(bool(known.matches(text)) for text in texts)
        rounds.append(1000 * (time.process_time() - begun) / len(texts))
    print(f"{platform.machine()}, Python {platform.python_version()}, one core\n")
    print("| benchmarks | items | index, CPU s | texts | characters | CPU ms a text | matches |")
    print("|---|---|---|---|---|---|---|")
    middle, low, high = statistics.median(rounds), min(rounds), max(rounds)
    mean = sum(map(len, texts)) / len(texts)
    print(
        f"| {len(files)} files | {len(items):,} | {index:.1f} | {len(texts):,} | {mean:,.0f} "
        f"| {middle:.2f} ({low:.2f}-{high:.2f}) | {found} |"
    )


if __name__ == "__main__":
    main()

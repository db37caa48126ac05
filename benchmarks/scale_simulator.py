"""How 80,000 prompts x 20 responses and 10 million x 100 would run: hours, disk, files, limits.

    python benchmarks/scale_simulator.py [--costs FILE] [--gpus 8] [--memory-gb 64]

Four sources of the sizes of FuseChat-3.0's (27, 70, 72 and 123 billion parameters) that take
turns on the same GPUs. GPU rates are assumptions (`tokens_per_second`, one tenth of an H100's
peak); give your own with `--rate NAME=TOKENS_PER_SECOND_PER_GPU`. `--costs`: what
`unit_costs.py --out` measured; without it the numbers of docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fusechat.forecast.simulate import (
    Fleet,
    Outcome,
    SourceLoad,
    UnitCosts,
    headroom,
    simulate,
    tokens_per_second,
)
from fusechat.forecast.terminal import size

BILLIONS = {"gemma_27b": 27, "llama_70b": 70, "qwen_72b": 72, "mistral_123b": 123}


def fleet_of(prompts: int, samples: int, gpus: int, rates: dict[str, float], **how: int) -> Fleet:
    """Four sources, each with a quarter of the samples, in turns on all GPUs."""
    sources = tuple(
        SourceLoad(name, samples // 4, rates.get(name, tokens_per_second(1e9 * billions)), gpus)
        for name, billions in BILLIONS.items()
    )
    # The reward model (8 billion) reads 620 tokens a response: two operations a parameter each.
    scores = rates.get("reward", tokens_per_second(8e9, used=0.3) / 620)
    return Fleet(prompts, sources, scores_per_second=scores, scoring_gpus=gpus, **how)


def report(title: str, fleet: Fleet, outcome: Outcome) -> None:
    """Print one run as Markdown."""
    print(f"\n**{title}**: {outcome.nodes:,} node(s) of {fleet.gpus_per_node} GPUs, "
          f"{fleet.workspaces} workspace(s), {fleet.writers} writer(s) each\n")  # fmt: skip
    print("| unit | hours | GPU hours | waits for | writer busy | next limit at |")
    print("|---|---:|---:|---|---:|---|")
    for stage in outcome.stages:
        following = "-"
        if stage.gpus:
            name, times = headroom(stage)
            following = f"{name}, {times:,.1f} x the GPUs"
        gpu_hours = f"{stage.gpu_hours:,.0f}" if stage.gpus else "-"
        print(f"| {stage.name} | {stage.hours:,.2f} | {gpu_hours} | {stage.slowest} | "
              f"{stage.share('writer'):.1%} | {following} |")  # fmt: skip
    memory = ", ".join(f"{name} {size(value)}" for name, value in outcome.memory.items())
    print(f"| all | {outcome.hours:,.1f} | {outcome.gpu_hours:,.0f} | | | |\n")
    print(f"Disk {size(outcome.disk)}; {outcome.files:,} files, {outcome.files_in_a_folder:,} in "
          f"the fullest folder; memory: {memory}; chance of a shared digest in a workspace "
          f"{outcome.collision:.2g}.")  # fmt: skip
    print("Limits: " + ("; ".join(outcome.limits) or "none before the GPUs") + ".")


def main(options: argparse.Namespace) -> int:
    """Simulate the two runs, the large one also divided."""
    costs = UnitCosts()
    if options.costs:
        costs = UnitCosts(**{**vars(costs), **json.loads(options.costs.read_text())})
    rates = {name: float(rate) for name, _, rate in (one.partition("=") for one in options.rate)}
    large = 128 * options.gpus
    runs = {
        "80,000 x 20": fleet_of(80_000, 20, options.gpus, rates),
        "10 million x 100, as one": fleet_of(10_000_000, 100, large, rates),
        "10 million x 100, divided": fleet_of(
            10_000_000, 100, large, rates, workspaces=64, writers=4
        ),
    }
    print(f"Command: python benchmarks/scale_simulator.py {' '.join(sys.argv[1:])}")
    for title, fleet in runs.items():
        report(title, fleet, simulate(fleet, costs, 1e9 * options.memory_gb))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="how large runs would go")
    parser.add_argument("--costs", type=Path, help="JSON of unit_costs.py")
    parser.add_argument("--gpus", type=int, default=8, help="of the small run; large: 128 x")
    parser.add_argument("--memory-gb", type=float, default=64)
    parser.add_argument("--rate", action="append", default=[], metavar="NAME=TOKENS_PER_SECOND")
    sys.exit(main(parser.parse_args()))

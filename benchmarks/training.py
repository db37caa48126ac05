"""One optimizer step of DPO (D1, D2) and SFT (S1): TRL at its defaults and at its best, and ours.

Run: `python benchmarks/training.py`; on a GPU: `--device cuda --config 1b`, or `8b`, `gemma2-9b`.

All train the same random model on the same random rows. Losses and gradients of one step are
compared first, ours with TRL's: where they differ, no ratio is printed and the exit code is 1.
TRL's best settings are swept and printed. Then rounds are interleaved, each of the same steps: the
reference's log-probabilities, forward, backward, clipping, AdamW. Ratios are medians over the
rounds, with the smallest and the largest. On a CPU time is the process's CPU time, on a GPU wall
time. `--json FILE` writes all numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
import trl
from training_ours import Ours
from training_peers import STOCK, Flags, Peer, padding_free, sweep
from training_work import CONFIGS, Setup, flops, make_model, make_steps, useful_tokens

TOLERANCE = {torch.float32: (1e-4, 1e-4), torch.bfloat16: (2e-2, 1e-1)}
"""Largest relative difference of the loss, and of the gradient (L2), by how it is computed."""
GOALS = {"D1": 2.0, "S1": 1.5}
GPU_GOAL = 1.5
NOISE = 0.002


@dataclass
class Variant:
    """One way to train, and its times: seconds of a whole round of steps."""

    name: str
    runner: Any
    flags: Any
    seconds: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    peak: int = 0
    """Bytes of GPU memory at its highest; 0 on a CPU."""


class Race:
    """Variants over one model, its reference and one optimizer."""

    def __init__(self, setup: Setup, options: argparse.Namespace) -> None:
        self.setup, self.options = setup, options
        self.steps = make_steps(setup)
        self.model = make_model(setup, NOISE if setup.sides == 2 else 0.0)
        reference = make_model(setup) if setup.sides == 2 else None
        self.peer = Peer(setup, self.model, reference, self.steps[0][0])
        self.ours = Ours(setup, self.model, reference, options.tokens)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-9, fused=True)

    def gradient(self, variant: Variant) -> tuple[float, torch.Tensor]:
        """Loss and gradient of the first step, without an update."""
        variant.runner.use(variant.flags)
        self.optimizer.zero_grad(set_to_none=True)
        step = self.steps[0]
        loss = variant.runner.step(step, variant.runner.reference_pass(step))
        grads = [p.grad.detach().flatten().cpu() for p in self.model.parameters()]
        return float(loss), torch.cat(grads)

    def round(self, variant: Variant) -> tuple[float, float]:
        """CPU and wall seconds of all steps."""
        variant.runner.use(variant.flags)
        self._wait()
        cpu, wall = time.process_time(), time.perf_counter()
        for step in self.steps:
            known = variant.runner.reference_pass(step)
            self.optimizer.zero_grad(set_to_none=True)
            variant.runner.step(step, known)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
        self._wait()
        return time.process_time() - cpu, time.perf_counter() - wall

    def timed(self, variant: Variant) -> None:
        """One round, kept in the variant; on a GPU the first comes after another one."""
        if self.setup.device.type == "cuda":
            if not variant.seconds:
                self.round(variant)
            torch.cuda.reset_peak_memory_stats()
        cpu, wall = self.round(variant)
        variant.wall.append(wall)
        variant.seconds.append(wall if self.setup.device.type == "cuda" else cpu)
        if self.setup.device.type == "cuda":
            variant.peak = max(variant.peak, torch.cuda.max_memory_allocated())

    def _wait(self) -> None:
        if self.setup.device.type == "cuda":
            torch.cuda.synchronize()

    def best(self, candidates: Sequence[Flags]) -> tuple[Flags, dict[str, float | str]]:
        """The fastest of some settings of TRL, and what each took in one round (or its error)."""
        table: dict[str, float | str] = {}
        fastest: tuple[float, Flags] | None = None
        for flags in candidates:
            variant = Variant(str(flags), self.peer, flags)
            try:
                if self.setup.device.type == "cuda":
                    self.round(variant)  # warm
                cpu, wall = self.round(variant)
            except (torch.OutOfMemoryError, ValueError) as error:
                table[variant.name] = type(error).__name__
                continue
            seconds = wall if self.setup.device.type == "cuda" else cpu
            table[variant.name] = seconds
            if fastest is None or seconds < fastest[0]:
                fastest = seconds, flags
        if fastest is None:
            raise SystemExit(f"TRL could not train with any of its settings: {table}")
        return fastest[1], table


def variants(race: Race) -> tuple[list[Variant], dict[str, Any]]:
    """Whom to race: TRL as it comes, at its best, in its padding-free mode; ours."""
    best, table = race.best(sweep(race.setup))
    found = [Variant("TRL, defaults", race.peer, STOCK)]
    found.append(Variant(f"TRL, best: {best}", race.peer, best))
    swept: dict[str, Any] = {"sweep": table}
    if race.setup.sides == 1:
        free, table = race.best(padding_free(race.setup))
        found.append(Variant(f"TRL, best without padding: {free}", race.peer, free))
        swept["padding_free"] = table
        return [*found, Variant("ours", race.ours, False)], swept
    found.append(Variant("ours, prompts not shared", race.ours, False))
    return [*found, Variant("ours, prompts shared", race.ours, True)], swept


def agreement(race: Race, found: Sequence[Variant]) -> dict[str, Any]:
    """How far ours is from TRL's, loss and gradient, by variant; whether that is near enough."""
    setup = race.setup
    half = setup.autocast or setup.dtype == torch.bfloat16
    allowed = TOLERANCE[torch.bfloat16 if half else torch.float32]
    loss, gradient = race.gradient(found[1])
    out: dict[str, Any] = {"allowed": allowed, "loss": loss, "agree": True}
    for variant in (v for v in found if v.runner is race.ours):
        own_loss, own = race.gradient(variant)
        away = abs(own_loss - loss) / abs(loss), float((own - gradient).norm() / gradient.norm())
        out[variant.name] = {"loss": away[0], "gradient": away[1]}
        out["agree"] &= away[0] <= allowed[0] and away[1] <= allowed[1]
    race.optimizer.zero_grad(set_to_none=True)
    return out


def race_one(setup: Setup, options: argparse.Namespace) -> dict[str, Any]:
    """One benchmark: agreement, sweep, rounds; all numbers."""
    race = Race(setup, options)
    plain = [Variant("TRL, defaults", race.peer, STOCK), Variant("TRL", race.peer, Flags())]
    kinds = [False] if setup.sides == 1 else [False, True]
    ours = [Variant(f"ours, shared={kind}", race.ours, kind) for kind in kinds]
    agreed = agreement(race, [*plain, *ours])
    result: dict[str, Any] = {
        "name": setup.name, "config": setup.config, "rows": setup.rows, "steps": setup.steps,
        "dtype": str(setup.dtype), "autocast": setup.autocast, "agreement": agreed,
    }  # fmt: skip
    if not agreed["agree"]:
        return result
    found, swept = variants(race)
    draw = random.Random(0)
    for _ in range(options.rounds):
        order = list(found)
        draw.shuffle(order)
        for variant in order:
            race.timed(variant)
    return result | swept | {"variants": numbers(race, found)}


def numbers(race: Race, found: Sequence[Variant]) -> list[dict[str, Any]]:
    """What is reported of each variant; ratios are of its time to our last one's."""
    rows = [example for step in race.steps for example in step]
    base = found[-1].seconds
    out = []
    for variant in found:
        ratios = [a / b for a, b in zip(variant.seconds, base, strict=True)]
        seconds = statistics.median(variant.seconds)
        shared = variant.flags is True
        out.append(
            {
                "name": variant.name, "seconds": variant.seconds, "median": seconds,
                "wall": statistics.median(variant.wall), "rows_per_s": len(rows) / seconds,
                "tokens_per_s": useful_tokens(rows) / seconds, "peak_bytes": variant.peak,
                "ratio": statistics.median(ratios), "ratio_min": min(ratios),
                "ratio_max": max(ratios),
                "useful_flops_per_s": flops(race.setup, rows, False) / seconds,
                "flops_per_s": flops(race.setup, rows, shared) / seconds,
            }
        )  # fmt: skip
    return out


def shown(result: dict[str, Any], peak: float | None) -> str:
    """The Markdown table of one benchmark."""
    agreed = result["agreement"]
    lines = [f"**{result['name']}**, {result['config']}, {result['rows']} rows a step"]
    for name, away in agreed.items():
        if isinstance(away, dict):
            off = f"loss {away['loss']:.1e}, gradient {away['gradient']:.1e}"
            lines.append(f"{name}, away from TRL: {off}")
    if not agreed["agree"]:
        return "\n".join([*lines, f"They differ (allowed {agreed['allowed']}): no ratio."])
    fields = ["variant", "s per step", "rows/s", "tokens/s", "time / ours, median (min-max)"]
    fields += ["MFU", "peak GB"] if peak else []
    lines += ["", "| " + " | ".join(fields) + " |", "|---" * len(fields) + "|"]
    for one in result["variants"]:
        cells = [
            one["name"], f"{one['median'] / result['steps']:.3f}", f"{one['rows_per_s']:.2f}",
            f"{one['tokens_per_s']:,.0f}",
            f"{one['ratio']:.2f} ({one['ratio_min']:.2f}-{one['ratio_max']:.2f})",
        ]  # fmt: skip
        if peak:
            useful, run = one["useful_flops_per_s"] / peak, one["flops_per_s"] / peak
            cells += [f"{useful:.2f} (run {run:.2f})", f"{one['peak_bytes'] / 1e9:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    for title, table in (("sweep", "sweep"), ("without padding", "padding_free")):
        if table in result:
            said = [f"{name}: {_seconds(value)}" for name, value in result[table].items()]
            lines += ["", f"TRL, {title}, s for a round's steps: {'; '.join(said)}"]
    best = next(one for one in result["variants"] if one["name"].startswith("TRL, best: "))
    goal = GPU_GOAL if peak else GOALS.get(result["name"])
    if goal:
        met = "met" if best["ratio"] >= goal else "NOT met"
        lines += ["", f"Goal over TRL's best settings: {goal}x, {met}."]
    return "\n".join(lines)


def _seconds(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"


def matrix_rate(device: torch.device) -> float | None:
    """FLOP/s of bfloat16 products of 8192 x 8192 matrices on a GPU; None on a CPU."""
    if device.type != "cuda":
        return None
    one, other = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        one @ other
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(10):
        one @ other
    torch.cuda.synchronize()
    return 10 * 2 * 8192**3 / (time.perf_counter() - begun)


def setups(options: argparse.Namespace) -> list[Setup]:
    """What to run, from the command line."""
    device = torch.device(options.device)
    gpu = device.type == "cuda"
    config = options.config or ("1b" if gpu else "tiny")
    small = config in ("8b", "gemma2-9b")
    dtype = torch.bfloat16 if small else torch.float32
    rows = options.rows or (128 if gpu else 8)
    return [
        Setup(name, config, device, dtype, rows * (1 if gpu or name != "S1" else 2), options.steps)
        for name in options.only
    ]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--config", choices=sorted(CONFIGS))
    parser.add_argument("--only", nargs="+", default=["D1", "D2", "S1"], choices=("D1", "D2", "S1"))
    parser.add_argument("--rows", type=int, help="rows or pairs of a step (8; on a GPU 128)")
    parser.add_argument("--steps", type=int, default=3, help="different steps in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, help="tokens of our micro-batches")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> int:
    """Run what was asked for; 1 where results differ."""
    options = arguments()
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    peak = matrix_rate(torch.device(options.device))
    here = f"{platform.machine()}, {os.cpu_count()} cores"
    where = torch.cuda.get_device_name() if peak else here
    about = f"{where}, {options.threads} threads, torch {torch.__version__}, transformers "
    about += f"{transformers.__version__}, TRL {trl.__version__}"
    about += f", bf16 products {peak / 1e12:.0f} TFLOP/s" if peak else ""
    print(about, flush=True)
    results = []
    for setup in setups(options):
        results.append(race_one(setup, options))
        print("\n" + shown(results[-1], peak), flush=True)
    if options.json:
        text = json.dumps({"about": about, "command": sys.argv, "results": results}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0 if all(result["agreement"]["agree"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Scoring 20 responses a prompt: padded batches of 8, sorted token budget, and the shared prompt.

Run: `python benchmarks/reward_scoring.py`; on a GPU: `--device cuda --config 8b --dtype bfloat16`.

All three score the same random conversations with the same random Llama and the same head. Their
scores are compared first: where they differ, no ratio is printed and the exit code is 1. Rounds
are interleaved; ratios are medians over the rounds, with the smallest and the largest. On a CPU
the time is the process's CPU time (wall time beside it), on a GPU wall time.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from fusechat.annotators._scoring import Body, Conversation
from fusechat.annotators._shared_prompt import grouped, padded_batches, pieces

CONFIGS: dict[str, dict[str, Any]] = {
    "small": {
        "hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 4,
        "num_attention_heads": 6, "num_key_value_heads": 3, "vocab_size": 4096,
    },
    "8b": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    },
}  # fmt: skip
SHAPES = ((300, 200), (190, 430))
GOALS = {"padded batches of 8": 3.0, "sorted token budget": 2.0}
SIGMA = 0.5
TOLERANCE = {"float32": 1e-5}
LOOSE = 0.1
"""In 16 bits: largest difference, as a share of the standard deviation of the scores."""


@dataclass(frozen=True)
class Work:
    """Conversations in the order in which a pool has them, and what scores them."""

    rows: list[Conversation]
    prompts: list[str]
    network: Any
    head: torch.Tensor
    budget: int


def conversations(
    shape: tuple[int, int], options: argparse.Namespace, vocabulary: int
) -> tuple[list[Conversation], list[str]]:
    """Prompts of one length with responses of log-normal lengths (`shape`: length, mean length)."""
    prompt, response = shape
    draw = random.Random(options.seed)
    rows, names = [], []
    for number in range(options.prompts):
        asked = [draw.randrange(vocabulary) for _ in range(prompt)]
        for _ in range(options.responses):
            length = round(draw.lognormvariate(math.log(response) - SIGMA**2 / 2, SIGMA))
            ids = (*asked, *(draw.randrange(vocabulary) for _ in range(max(8, length))))
            rows.append(Conversation(ids, (len(ids) - 1,)))
            names.append(str(number))
    return rows, names


def padded(work: Work, batches: Sequence[Sequence[int]]) -> list[float]:
    """Plain right-padded batches through the stock model."""
    scores = [0.0] * len(work.rows)
    device = work.head.device
    for batch in batches:
        lengths = torch.tensor([len(work.rows[row].ids) for row in batch], device=device)
        ids = torch.zeros(len(batch), int(lengths.max()), dtype=torch.long)
        for place, row in enumerate(batch):
            ids[place, : len(work.rows[row].ids)] = torch.tensor(work.rows[row].ids)
        mask = (torch.arange(ids.shape[1], device=device)[None] < lengths[:, None]).long()
        with torch.inference_mode():
            hidden = work.network(
                input_ids=ids.to(device), attention_mask=mask, use_cache=False
            ).last_hidden_state
            last = hidden[torch.arange(len(batch), device=device), lengths - 1].float()
            found = (last @ work.head).tolist()
        for row, score in zip(batch, found, strict=True):
            scores[row] = score
    return scores


def eights(work: Work) -> list[range]:
    """Batches of 8 in arrival order."""
    return [range(n, min(n + 8, len(work.rows))) for n in range(0, len(work.rows), 8)]


def in_budget(work: Work) -> list[list[int]]:
    """Batches of like length within the token budget."""
    return padded_batches([row.ids for row in work.rows], work.budget)


def shared(work: Work) -> list[float]:
    """What `reward_model` and `armorm` do."""
    body = Body(work.network, 0, "shared")
    states = body.states(work.rows, grouped(work.prompts), work.budget)
    found: list[float] = (states[:, 0] @ work.head).tolist()
    return found


VARIANTS: dict[str, Callable[[Work], list[float]]] = {
    "padded batches of 8": lambda work: padded(work, eights(work)),
    "sorted token budget": lambda work: padded(work, in_budget(work)),
    "shared prompt (ours)": shared,
}
OURS = "shared prompt (ours)"


def tokens(name: str, work: Work) -> int:
    """Tokens that a variant computes, padding included."""
    ids = [row.ids for row in work.rows]
    lengths = [len(row) for row in ids]
    if name == OURS:
        found = pieces(ids, grouped(work.prompts), work.budget)
        return sum(piece.tokens(lengths) for piece in found)
    batches = in_budget(work) if name == "sorted token budget" else eights(work)
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


def timed(name: str, work: Work) -> tuple[list[float], float, float]:
    """Scores, CPU seconds of this process and wall seconds."""
    cuda = work.head.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    scores = VARIANTS[name](work)
    if cuda:
        torch.cuda.synchronize()
    return scores, time.process_time() - cpu, time.perf_counter() - wall


def worst_difference(found: dict[str, list[float]]) -> float:
    """Largest difference of a score to ours."""
    pairs = [zip(found[OURS], scores, strict=True) for scores in found.values()]
    return max(abs(a - b) for pair in pairs for a, b in pair)


def row(
    seconds: list[tuple[float, float]],
    ours: list[tuple[float, float]],
    at: int,
    goal: float | None,
) -> str:
    """The measured part of a line of the table; `at` says which of the times counts."""
    ratios = [a[at] / b[at] for a, b in zip(seconds, ours, strict=True)]
    median = statistics.median(ratios)
    wanted = f">= {goal:.0f}" if goal else ""
    cpu, wall = (statistics.median(s[n] for s in seconds) for n in (0, 1))
    spread = f"{median:.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    return f"{cpu:.2f} | {wall:.2f} | {spread} | {wanted} |"


def measure(
    options: argparse.Namespace, network: Any, head: torch.Tensor, shape: tuple[int, int]
) -> bool:
    """One shape: do the scores agree? Then the table. Returns whether they do."""
    rows, prompts = conversations(shape, options, network.config.vocab_size)
    work = Work(rows, prompts, network, head, options.batch_tokens)
    scores: dict[str, list[float]] = {}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name in VARIANTS:
            scores[name], cpu, wall = timed(name, work)
            seconds[name].append((cpu, wall))
        worst = worst_difference(scores)
        allowed = TOLERANCE.get(options.dtype, LOOSE * statistics.stdev(scores[OURS]))
        if not worst <= allowed:
            print(f"The scores differ by {worst:.1e} ({allowed:.1e} is allowed): no ratio.")
            return False
    title = f"P={shape[0]}, R={shape[1]}, {options.prompts} prompts x {options.responses}"
    print(f"\n**{title}**: largest difference of a score {worst:.1e} (allowed {allowed:.1e})\n")
    at = 1 if options.device.startswith("cuda") else 0
    print("| variant | tokens | CPU s | wall s | times ours, median (min-max) | goal |")
    print("|---|---|---|---|---|---|")
    for name in VARIANTS:
        goal = GOALS.get(name) if shape == SHAPES[0] else None
        line = row(seconds[name], seconds[OURS], at, goal)
        print(f"| {name} | {tokens(name, work):,} | {line}", flush=True)
    return True


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=CONFIGS, default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--responses", type=int, default=20)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    config = transformers.LlamaConfig(
        **CONFIGS[options.config], max_position_embeddings=8192, pad_token_id=None
    )
    torch.set_default_dtype(getattr(torch, options.dtype))
    with torch.device(options.device):
        network = transformers.LlamaModel(config).eval().requires_grad_(False)
        head = torch.randn(config.hidden_size, dtype=torch.float32) / config.hidden_size**0.5
    torch.set_default_dtype(torch.float32)
    print(f"`{' '.join(['python', *sys.argv])}`")
    cpu = f"{platform.machine()}, {os.cpu_count()} cores"
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else cpu
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"\n{device}, {options.threads} threads, {versions}, ", end="")
    print(f"{options.config} Llama, {options.dtype}")
    agreed = [measure(options, network, head, shape) for shape in SHAPES]
    return 0 if all(agreed) else 1


if __name__ == "__main__":
    raise SystemExit(main())

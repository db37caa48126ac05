"""What the answers to the benchmarks took: seconds, tokens, and money where a price is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fusechat import files
from fusechat.budget import price_of
from fusechat.settings import Price
from fusechat.stages.benchmark_units import JUDGE, is_sample
from fusechat.tables import read_columns, shards


def benchmark_costs(
    units: Iterable[tuple[str, Path]], prices: Mapping[str, Price] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Task -> model -> what sampling took, of the sample units of an evaluation that are done.

    `seconds` of the units' last runs, `responses`, `adopted` (taken over from other units),
    `tokens`, `prompt_tokens`, `tokens_per_second` (None where rows were adopted), and `cost` in the
    prices' currency (None without one, or where no tokens are told); the same of the judge with
    `judge_` before it, where there is one.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for unit, folder in units:
        steps = unit.split("/")
        sampled = steps[0] == "evaluate" and steps[-1].partition("@")[0] == "sample"
        if not sampled or not (folder / "manifest.json").exists():
            continue
        before = "" if is_sample(unit) else "judge_"
        if before and JUDGE not in steps:
            continue
        one = found.setdefault(steps[1], {}).setdefault(steps[2], {})
        _add(one, before, _measured(folder, (prices or {}).get(unit)))
    for by_model in found.values():
        for one in by_model.values():
            _rates(one)
    return found


def _measured(folder: Path, price: Price | None) -> dict[str, Any]:
    manifest = files.read_json(folder / "manifest.json")
    counts = manifest["counts"]
    tokens, prompt_tokens, known = 0, 0, True
    for path in shards(folder / "data"):
        rows = read_columns(path, ["tokens", "prompt_tokens"])
        for name in ("tokens", "prompt_tokens"):
            known = known and rows[name].null_count == 0
        tokens += sum(value or 0 for value in rows["tokens"].to_pylist())
        prompt_tokens += sum(value or 0 for value in rows["prompt_tokens"].to_pylist())
    priced = price is not None and known
    return {
        "seconds": float(manifest["seconds"]),
        "responses": int(counts.get("responses", 0)),
        "adopted": int(counts.get("adopted", 0)),
        "tokens": tokens,
        "prompt_tokens": prompt_tokens,
        "cost": price_of(price, prompt_tokens, tokens) if priced else None,
    }


def _add(one: dict[str, Any], before: str, found: Mapping[str, Any]) -> None:
    """Sum the units of one model (or its judge); the cost is known only where all are."""
    for name, value in found.items():
        key = before + name
        if key not in one:
            one[key] = value
        else:
            one[key] = None if one[key] is None or value is None else one[key] + value


def _rates(one: dict[str, Any]) -> None:
    for before in ("", "judge_"):
        if f"{before}seconds" not in one:
            continue
        timed = one[f"{before}seconds"] > 0 and not one[f"{before}adopted"]
        rate = one[f"{before}tokens"] / one[f"{before}seconds"] if timed else None
        one[f"{before}tokens_per_second"] = rate

"""Made-up benchmarks and answers, for tests of the table that is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fusechat.metrics.scoring import Items, group_means
from fusechat.stages.benchmark_items import Answered, Benchmarked
from fusechat.tasks._benchmark import Benchmark, JudgedBenchmark
from fusechat.tasks._catalogue import DataFile

BASE_SFT_FUSED = ("target", "train.sft", "train.dpo")


class Sums(Benchmark):
    """A row of the paper with 4 items in a file of its own."""

    title: ClassVar[str] = "GSM8K"
    published: ClassVar[str | None] = "GSM8K"
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile("items", ("sums.jsonl",), "MIT", "made here", items=4),
    )

    def extras(self, items: Items) -> dict[str, Any]:
        return {"by_category": group_means(items), "odd": np.float64("nan"), "n": np.int64(3)}


class Kept(Sums):
    """The same with a known digest."""

    title: ClassVar[str] = "MATH"
    published: ClassVar[str | None] = "MATH"
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile("items", ("sums.jsonl",), "MIT", "made here", sha256={"0" * 64: "v1"}, items=4),
    )


class Secret(Benchmark):
    """A row whose texts are not to be shown."""

    title: ClassVar[str] = "GPQA-Diamond"
    published: ClassVar[str | None] = "GPQA-Diamond"
    data: ClassVar[tuple[DataFile, ...]] = ()
    private: ClassVar[bool] = True


class Talk(JudgedBenchmark):
    """Mean of the means of two categories, as a rating."""

    title: ClassVar[str] = "MT-Bench"
    published: ClassVar[str | None] = "MT-Bench"
    scale: ClassVar[float] = 10.0
    data: ClassVar[tuple[DataFile, ...]] = ()
    judges: ClassVar[tuple[str, ...]] = ("gpt-4", "gpt-4-0613")

    def score(self, items: Items) -> float:
        means = group_means(items)
        return self.scale * sum(means.values()) / len(means)


class Rules(Benchmark):
    """No row of the paper."""

    title: ClassVar[str] = "IFEval"
    data: ClassVar[tuple[DataFile, ...]] = ()


def items(
    values: Sequence[float | None], groups: Sequence[str] = (), names: Sequence[str] = ()
) -> Items:
    """Items with these values; None is one without a verdict."""
    n = len(values)
    return Items(
        tuple(names) or tuple(f"{place:03x}" for place in range(n)),
        np.array([np.nan if value is None else value for value in values], dtype=np.float64),
        tuple(groups) or ("all",) * n,
        np.full(n, 100.0),
        np.full(n, 20.0),
        ({},) * n,
    )


def answered(values: Sequence[float | None], *groups: str, **counts: int) -> Answered:
    """The answers of one model."""
    return Answered((), items(values, groups), counts)


def entry(
    part: Benchmark, results: Mapping[str, Mapping[str, Answered]], **changes: Any
) -> Benchmarked:
    """A benchmark of an evaluation of the models of `results`."""
    models = tuple(dict.fromkeys(model for by in results.values() for model in by))
    fields: dict[str, Any] = {
        "name": type(part).__name__.lower(), "models": models, "take": None, "skipped": None,
        "judge": None, "notes": (), "unlike": (), "settings": dict.fromkeys(models, "a1"),
    }  # fmt: skip
    return Benchmarked(part=part, results=results, **(fields | changes))


def base_and_fused(
    base: Sequence[float | None], fused: Sequence[float | None]
) -> dict[str, dict[str, Answered]]:
    """Two models in the paper's profile."""
    return {"paper": {"target": answered(base), "train.dpo": answered(fused)}}


def sums(folder: Path, kind: type[Sums] = Sums) -> Sums:
    """The benchmark with its file in `folder`."""
    (folder / "sums.jsonl").write_text('{"q": 1}\n')
    return kind(data_dir=str(folder))

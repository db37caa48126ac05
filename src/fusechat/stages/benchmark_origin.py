"""What a benchmark's row was made from, and why its number may not be held against the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat.stages.benchmark_items import Benchmarked
from fusechat.stages.benchmark_units import JUDGE, is_sample
from fusechat.tables import read_dicts
from fusechat.tasks._benchmark import Benchmark, JudgedBenchmark
from fusechat.tasks._catalogue import sha256_of


@dataclass(frozen=True)
class Served:
    """Names under which answers came, as their rows say."""

    models: Mapping[str, Sequence[str]]
    """Model of the evaluation -> names."""
    judges: Mapping[str, Sequence[str]]
    """Benchmark -> names of what judged it."""


@dataclass(frozen=True)
class Size:
    """How many prompts of a benchmark were asked."""

    asked: int
    whole: int | None
    """Of the whole benchmark; None where its size is not fixed."""
    take: int | None

    @property
    def short(self) -> bool:
        """Whether the data hold fewer than the benchmark, beyond what `take` left out."""
        fewer = self.whole is not None and self.asked < self.whole
        return fewer and (self.take is None or self.asked < self.take)

    @property
    def taken(self) -> bool:
        """Whether `take` left some out."""
        if self.take is None or self.asked < self.take:
            return False
        return self.whole is None or self.asked < self.whole


def size_of(entry: Benchmarked) -> Size:
    """The size of what was asked, by the items of any model."""
    found = next(iter(next(iter(entry.results.values())).values()))
    asked = len({name.partition("#")[0] for name in found.items.names})
    return Size(asked, entry.part.expected(), entry.take)


def served_names(inputs: Mapping[str, Path]) -> Served:
    """What the sample units of an evaluation say of who answered; unit name -> folder."""
    models: dict[str, dict[str, None]] = {}
    judges: dict[str, dict[str, None]] = {}
    for unit, folder in inputs.items():
        steps = unit.split("/")
        if steps[0] != "evaluate" or steps[-1].partition("@")[0] != "sample":
            continue
        if is_sample(unit):
            found = models.setdefault(steps[2], {})
        elif JUDGE in steps:
            found = judges.setdefault(steps[1], {})
        else:
            continue
        for row in read_dicts(folder / "data", ["model", "finish"]):
            if row["finish"] != "error":
                found[row["model"]] = None
    return Served({m: list(n) for m, n in models.items()}, {t: list(n) for t, n in judges.items()})


def data_files(part: Benchmark) -> list[dict[str, Any]]:
    """The files that are there: role, file name, SHA-256, which known version it is, licence."""
    there = part.found()
    out = []
    for file in part.data:
        if file.role not in there:
            continue
        sha = sha256_of(there[file.role])
        out.append(
            {
                "role": file.role,
                "file": there[file.role].name,
                "sha256": sha,
                "known": file.sha256.get(sha),
                "changed": bool(file.sha256) and sha not in file.sha256,
                "licence": file.licence,
            }
        )
    return out


def reasons_not_comparable(
    entry: Benchmarked,
    profile: str,
    size: Size,
    data: Sequence[Mapping[str, Any]],
    judges: Sequence[str],
) -> list[str]:
    """Why a row's numbers are not to be held against published ones; empty where they may be."""
    part, out = entry.part, []
    if part.differs:
        out.append(part.differs)
    if isinstance(part, JudgedBenchmark):
        out += _other_judge(part, entry.judge, judges)
    if profile != "paper" and "paper" in entry.results:
        out.append(f"graded in the profile '{profile}', not as the paper does")
    if size.whole is not None and size.asked < size.whole:
        out.append(f"{size.asked:,} of {size.whole:,} items were asked")
    elif size.taken:
        out.append(f"{size.asked:,} items were taken of it")
    out += [f"{one['file']} is none of the known files" for one in data if one["changed"]]
    if len(set(entry.settings.values())) > 1:
        out.append("the models were not asked alike")
    return [*out, *entry.unlike]


def _other_judge(part: JudgedBenchmark, judge: str | None, served: Sequence[str]) -> list[str]:
    paper = " or ".join(part.judges)
    names = list(served) or ([judge] if judge else [])
    other = [name for name in names if name not in part.judges]
    return [f"judged by {', '.join(other)}; the paper's judge is {paper}"] if other else []

"""What finished rows say of those to come: tokens, seconds, bytes, yield."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fusechat.budget import Tally
from fusechat.digests import digest
from fusechat.files import read_json
from fusechat.forecast.estimate import Stratum
from fusechat.planner import Plan, Unit
from fusechat.records import Prompt
from fusechat.tables import read_columns, read_dicts, shards


@dataclass(frozen=True)
class RowMeasure:
    """What the rows of one sample or annotate unit took."""

    unit: str
    part: str
    """Digest of the part: its measure holds for the same part in any recipe."""
    origin: str
    """Where it was measured, in words."""
    rows: int
    failed: int
    cut: int
    """Responses that ended at the token limit, scores of what could not be judged."""
    bytes: int
    """On disk: the table and its index."""
    seconds_per_row: float | None
    """Of the whole unit, all its workers together; None where no row was made under the clock."""
    response_tokens: Mapping[str, Stratum] = field(default_factory=dict)
    """Domain -> tokens of a response; of sources only."""
    prompt_tokens: Mapping[str, Stratum] = field(default_factory=dict)
    """Domain -> prompt tokens of a request, where the source tells them."""
    guessed_rows: int = 0
    """Rows whose tokens are estimated from their texts."""

    def tokens_of_a_row(self) -> tuple[float, float] | None:
        """Prompt and response tokens, over all domains; None without rows."""
        if not self.response_tokens:
            return None
        return _mean(self.prompt_tokens.values()), _mean(self.response_tokens.values())

    def seconds_of_a_row(self) -> float | None:
        """Seconds, where measured."""
        return self.seconds_per_row

    @property
    def bytes_per_row(self) -> float:
        """On disk."""
        return self.bytes / max(1, self.rows)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> RowMeasure:
        """As `asdict` wrote it."""
        names = ("response_tokens", "prompt_tokens")
        strata = {name: {d: Stratum(**s) for d, s in tree[name].items()} for name in names}
        return cls(**{**tree, **strata})


def _mean(strata: Any) -> float:
    found = list(strata)
    prompts = sum(one.prompts for one in found)
    return sum(one.prompts * one.mean for one in found) / prompts if prompts else 0.0


@dataclass(frozen=True)
class YieldMeasure:
    """What a build made of the pilot's prompts."""

    key: str
    """Digest of the build's rules, its sources and annotators: not of the prompts."""
    origin: str
    domains: Mapping[str, Mapping[str, int]]
    """Domain -> `prompts`, and of these how many gave `sft` and `dpo`; `sft_rows`, `dpo_rows`."""
    bytes: int
    seconds: float | None

    @property
    def prompts(self) -> int:
        """All prompts that were built from."""
        return sum(found["prompts"] for found in self.domains.values())


def yield_key(plan: Plan) -> str:
    """What decides the yield of a prompt: all settings from its sources to the build."""
    units = [unit for unit in plan.units if unit.name == "build" or unit.name in _before(plan)]
    return digest([[unit.name, unit.made_from["settings"]] for unit in units])


def _before(plan: Plan) -> tuple[str, ...]:
    return tuple(name for name in plan["build"].inputs if name != "prompts")


def measure_rows(
    unit: Unit, folder: Path, domains: Mapping[str, str], origin: str, before: int = 0
) -> RowMeasure | None:
    """Measure a sample or annotate unit; None where it holds no rows.

    `domains`: prompt id -> domain. `before`: rows that were there when its manifest's seconds
    began.
    """
    part = unit.settings.part.digest()
    failed = cut = rows = 0
    tallies: dict[str, Tally] = defaultdict(Tally)
    for row in _rows(folder, unit.kind):
        rows += 1
        state = row["finish"] if unit.kind == "sample" else row["status"]
        failed += state == "error"
        cut += state in ("length", "unscorable")
        if unit.kind == "sample":
            size = len(((row["text"] or "") + (row["reasoning"] or "")).encode("utf-8", "replace"))
            tallies[row["prompt_id"]].see(row["tokens"], row["prompt_tokens"], size)
    if not rows:
        return None
    by_domain: dict[str, list[Tally]] = defaultdict(list)
    for prompt, tally in tallies.items():
        by_domain[domains[prompt]].append(tally)
    return RowMeasure(
        unit=unit.name, part=part, origin=origin, rows=rows, failed=failed, cut=cut,
        bytes=_size(folder, "data", "index"),
        seconds_per_row=_seconds(folder, before),
        response_tokens={
            domain: Stratum.of([one.response_tokens / one.rows for one in found])
            for domain, found in by_domain.items()
        },
        prompt_tokens={
            domain: Stratum.of([one.prompt_tokens / one.rows for one in found])
            for domain, found in by_domain.items()
            if any(one.prompt_tokens for one in found)
        },
        guessed_rows=sum(one.guessed_rows for one in tallies.values()),
    )  # fmt: skip


def _rows(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    columns = ["prompt_id", "finish", "tokens", "prompt_tokens", "text", "reasoning"]
    for path in shards(folder / "data"):
        yield from read_columns(path, columns if kind == "sample" else ["status"]).to_pylist()


def _seconds(folder: Path, before: int) -> float | None:
    """Of a row that was made in the unit's last attempt; None where none was, or it is not over."""
    if not (folder / "manifest.json").exists():
        return None
    manifest = read_json(folder / "manifest.json")
    counts = manifest["counts"]
    rows = counts.get("responses", counts.get("scores", 0)) - counts.get("adopted", 0) - before
    return float(manifest["seconds"]) / rows if rows > 0 else None


def measure_yield(plan: Plan, domains: Mapping[str, str], origin: str) -> YieldMeasure | None:
    """Measure a finished build; None where there is none."""
    if not any(unit.name == "build" for unit in plan.units):
        return None
    folder = plan.path(plan["build"])
    if not (folder / "manifest.json").exists():
        return None
    found = {domain: {"prompts": n} for domain, n in Counter(domains.values()).items()}
    for table in ("sft", "dpo"):
        rows = Counter(row["prompt_id"] for row in read_dicts(folder / table, ["prompt_id"]))
        for domain, counts in found.items():
            here = [n for prompt, n in rows.items() if domains[prompt] == domain]
            counts |= {table: len(here), f"{table}_rows": sum(here)}
    seconds = read_json(folder / "manifest.json")["seconds"]
    size = _size(folder, "sft", "dpo", "dropped")
    return YieldMeasure(yield_key(plan), origin, found, size, float(seconds))


def _size(folder: Path, *tables: str) -> int:
    return sum(p.stat().st_size for name in tables for p in (folder / name).glob("*.parquet"))


def domains_of(prompts: Sequence[Prompt]) -> dict[str, str]:
    """Prompt id -> domain."""
    return {prompt.id: prompt.domain for prompt in prompts}


@dataclass(frozen=True)
class Measures:
    """The newest measures of each part, and of a build."""

    parts: Mapping[str, RowMeasure]
    yields: Mapping[str, YieldMeasure]

    def rows(self, unit: Unit) -> RowMeasure | None:
        """Of a sample or annotate unit."""
        return self.parts.get(unit.settings.part.digest())

    def built(self, plan: Plan) -> YieldMeasure | None:
        """Of the plan's build."""
        return self.yields.get(yield_key(plan)) if plan.recipe.build is not None else None

    def as_json(self) -> dict[str, Any]:
        """For a pilot's file."""
        return {
            "units": [asdict(one) for one in self.parts.values()],
            "yields": [asdict(one) for one in self.yields.values()],
        }

"""What the units of a plan hold, and how many rows they are to have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusechat.budget import Tally
from fusechat.files import read_jsonl
from fusechat.planner import Plan, Unit
from fusechat.records import Prompt
from fusechat.stages.candidates import Requests
from fusechat.stages.on_policy import reserved_ids
from fusechat.tables import read_columns, read_table, shards
from fusechat.unit_contexts import resolved


def tally_of(folder: Path) -> Tally:
    """Rows and tokens that a sample unit holds, finished or in its journals."""
    tally = Tally()
    for path in shards(folder / "data"):
        _add_shard(tally, path)
    seen: set[str] = set()  # a row may be in two workers' journals, or in place already
    for path in sorted((folder / "journal").glob("[0-9]*.jsonl")):
        shard = folder / "data" / f"{path.name.split('.')[0]}.parquet"
        if shard.exists():
            seen.update(read_columns(shard, ["made_from"])["made_from"].to_pylist())
        for row in read_jsonl(path):
            if "prompt_id" in row and row["made_from"] not in seen:
                seen.add(row["made_from"])
                _see(tally, row)
    return tally


def _add_shard(tally: Tally, path: Path) -> None:
    counted = read_columns(path, ["tokens"])["tokens"]
    columns = ["tokens", "prompt_tokens", "text", "reasoning"]
    if not counted.null_count:
        columns = columns[:2]  # texts are only read where they must be estimated from
    for row in read_columns(path, columns).to_pylist():
        _see(tally, row)


def _see(tally: Tally, row: dict[str, Any]) -> None:
    text = (row.get("text") or "") + (row.get("reasoning") or "")
    tally.see(row["tokens"], row.get("prompt_tokens"), len(text.encode("utf-8", "replace")))


def prompts_of(plan: Plan) -> Iterator[Prompt]:
    """The prompts of the plan; its first unit must be done."""
    return read_table(plan.path(plan["prompts"]) / "prompts", Prompt)


def requests_of(plan: Plan, unit: Unit) -> Requests:
    """What a source of the plan is asked; its prompts must be done.

    A source that the recipe trains is asked the prompts that the build reserved; as long as that
    is not done, all prompts of its domains, which is the most there can be.
    """
    table = plan.path(plan["prompts"]) / "prompts"
    only = None
    if "build" in unit.inputs and (plan.path(plan["build"]) / "manifest.json").exists():
        only = reserved_ids(plan.path(plan["build"]))
    source = unit.name.removeprefix("sample/")
    return Requests(entry_of(plan, unit), table, source, plan.recipe.seed, only)


def entry_of(plan: Plan, unit: Unit) -> Any:
    """A unit's settings as its rows are made: of a trained source, once it is, with its model."""
    folders = [plan.path(plan[name]) for name in unit.inputs if name.startswith("train/")]
    if not all((folder / "manifest.json").exists() for folder in folders):
        return unit.settings
    return resolved(plan, unit)


def sample_units(plan: Plan) -> list[Unit]:
    """The sources of the plan; evaluation sampling is none of them."""
    return [unit for unit in plan.units if unit.name.startswith("sample/")]

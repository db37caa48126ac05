"""What the report shows of the benchmarks: their table, costs, and wins and losses to read.

The texts of a benchmark whose publisher asks not to show them (`private`) are never read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusechat import files, tables
from fusechat.records import Prompt
from fusechat.report.built import of_format
from fusechat.report.judged import Unit
from fusechat.settings import Price
from fusechat.stages.benchmark_costs import benchmark_costs
from fusechat.stages.benchmark_rows import FORMAT
from fusechat.stages.benchmark_units import JUDGE, TURN_2


@dataclass(frozen=True)
class Side:
    """One model's answer to an item, and what was made of it."""

    model: str
    text: str
    value: float
    """In [0, 1]."""
    words: tuple[str, ...]
    """The judge's, one for each of its games; or the grader's reason."""


@dataclass(frozen=True)
class Example:
    """An item on which two models differ."""

    task: str
    title: str
    item: str
    """What its publisher calls it."""
    category: str
    won: bool
    """Whether the first of `sides` did better."""
    turns: tuple[tuple[str, str], ...]
    """Role and text of what was asked."""
    sides: tuple[Side, Side]


@dataclass(frozen=True)
class Benchmarks:
    """The benchmarks of a run."""

    table: Mapping[str, Any]
    """benchmarks.json."""
    costs: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()


def benchmarks(units: Sequence[Unit], compare: Unit | None, run_folder: Path) -> Benchmarks | None:
    """The benchmarks of a finished comparison; None where it has none, or of another format."""
    table = of_format(compare.folder / "benchmarks.json", FORMAT) if compare else None
    if table is None:
        return None
    path = run_folder / "prices.json"
    told = files.read_json(path) if path.exists() else {}
    prices = {name: Price(**price) for name, price in told.items()}
    costs = benchmark_costs(((unit.name, unit.folder) for unit in units), prices)
    known = {unit.name: unit for unit in units if unit.done}
    return Benchmarks(table, costs, tuple(_examples(table, known)))


def _examples(table: Mapping[str, Any], units: Mapping[str, Unit]) -> Iterator[Example]:
    for row in table["rows"]:
        found = row.get("examples")
        if row["status"] == "skipped" or row["private"] or not found:
            continue
        items = {one["item"] for kind in ("wins", "losses") for one in found[kind]}
        prompts = _prompts(units, f"evaluate/{row['name']}", items)
        models = (found["model"], found["against"])
        answers = {model: _Answers(units, row, model, items) for model in models}
        for kind in ("wins", "losses"):
            for one in found[kind]:
                prompt = prompts.get(one["item"].partition("#")[0])
                if prompt is None:
                    continue
                sides = tuple(
                    answers[model].side(one["item"], one[value])
                    for model, value in zip(models, ("value", "against"), strict=True)
                )
                yield Example(
                    task=row["name"], title=row["title"], item=prompt.item or "",
                    category=prompt.domain, won=kind == "wins",
                    turns=_turns(prompt, one["item"]), sides=(sides[0], sides[1]),
                )  # fmt: skip


def _prompts(units: Mapping[str, Unit], top: str, items: Iterable[str]) -> dict[str, Prompt]:
    folder = _table(units, f"{top}/prompts", "prompts")
    wanted = {item.partition("#")[0] for item in items}
    rows = tables.read_table(folder, Prompt) if folder and wanted else ()
    return {prompt.id: prompt for prompt in rows if prompt.id in wanted}


def _turns(prompt: Prompt, item: str) -> tuple[tuple[str, str], ...]:
    """What was asked, up to the item's turn; the model's own answers before it are left out."""
    asked = [(message.role, message.content) for message in prompt.messages]
    later = prompt.turns or ()
    upto = int(item.partition("#")[2] or 1) - 1
    return (*asked, *(("user", text) for text in later[:upto]))


class _Answers:
    """One model's answers to some items of a benchmark, and their scores."""

    def __init__(
        self, units: Mapping[str, Unit], row: Mapping[str, Any], model: str, items: set[str]
    ) -> None:
        self.model, top = model, f"evaluate/{row['name']}/{model}"
        self._responses: dict[str, tuple[str, str]] = {}
        """Item -> id and text of its first response."""
        first = {item: item for item in items if "#" not in item}
        self._read(_samples(units, top), first)
        links = _table(units, f"{top}/{TURN_2}/prompts", "links")
        if links is not None:
            rows = tables.read_dicts(links, ["prompt_id", "first_id"])
            second = {r["prompt_id"]: f"{r['first_id']}#2" for r in rows}
            wanted = {prompt: item for prompt, item in second.items() if item in items}
            self._read(_samples(units, f"{top}/{TURN_2}"), wanted)
        named = f"{top}/annotate@{row['profile']}"
        scores = _table(units, named if named in units else f"{top}/annotate", "data")
        ids = {response for response, _ in self._responses.values()}
        columns = ["response_id", "reason", "details"]
        found = tables.read_dicts(scores, columns) if scores and ids else ()
        self._scores = {one["response_id"]: one for one in found if one["response_id"] in ids}

    def _read(self, folders: Iterable[Path], wanted: Mapping[str, str]) -> None:
        for folder in folders if wanted else ():
            for row in tables.read_dicts(folder, ["id", "prompt_id", "text", "index"]):
                item = wanted.get(row["prompt_id"])
                if item is not None and item not in self._responses:
                    self._responses[item] = (row["id"], row["text"])

    def side(self, item: str, value: float) -> Side:
        """The answer to an item; an empty text where it is not there any more."""
        response, text = self._responses.get(item, ("", ""))
        return Side(self.model, text, value, _words(self._scores.get(response)))


def _words(score: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The judge's words, or the grader's reason."""
    if score is None:
        return ()
    details = json.loads(score["details"]) if score["details"] else {}
    told = details.get(JUDGE) if isinstance(details, Mapping) else None
    if isinstance(told, Mapping):
        return tuple(str(text) for text in told.values())
    return (score["reason"],) if score["reason"] else ()


def _samples(units: Mapping[str, Unit], top: str) -> list[Path]:
    """Response tables right below `top`: `sample`, or one for each temperature."""
    names = [name for name in units if name.partition("@")[0] == f"{top}/sample"]
    return [folder for name in names if (folder := _table(units, name, "data"))]


def _table(units: Mapping[str, Unit], name: str, table: str) -> Path | None:
    unit = units.get(name)
    return unit.table(table) if unit else None

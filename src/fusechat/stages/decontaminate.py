"""The contamination ledger: prompts and responses that have words of a benchmark.

Sources may have learned test items by heart and say them to other prompts, so responses are
looked at as well as prompts. What is found is kept in `removed/`, each row with the item that
it matches; the build leaves it out. FuseChat-3.0 says nothing of this (method: A23).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from fusechat.errors import EmptyError
from fusechat.metrics.contamination import HeldOutItems, Item, Match
from fusechat.parts import Task
from fusechat.records import Prompt, Record
from fusechat.settings import HubSetName
from fusechat.stages.context import UnitContext
from fusechat.tables import count_rows, read_dicts, read_table, write_table

WORDS_KEPT = 300
"""Characters of the shared words that are kept."""


class Contaminated(Record):
    """A prompt or a response that has words of an item of a benchmark."""

    what: Literal["prompt", "response"]
    prompt_id: str
    response_id: str = ""
    source: str = ""
    origin: str
    domain: str
    benchmark: str
    item: str
    """The benchmark's own name of the item, or its place."""
    kind: Literal["run", "near_duplicate"]
    runs: int
    """Different runs of words that both have."""
    jaccard: float
    words: str
    """The first run that both have."""


class Benchmark(BaseModel):
    """Where the items of one benchmark are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: HubSetName | None = None
    """A file or folder, relative to the recipe, or a hub id; without it the catalogue's hub id."""
    revision: str | None = None
    """The commit; asked for with a hub id."""
    name: str | None = None
    """The configuration; without it the catalogue's."""
    split: str | None = None
    """Without it the catalogue's, else `test`."""


class DecontaminateSettings(BaseModel):
    """Which benchmarks are kept out of the training rows, and how alike is too alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    against: dict[str, Benchmark] = {}
    """Name (of the catalogue, or your own) -> where its items are."""
    evaluation: bool = True
    """The test prompts of this recipe's own evaluation, too."""
    ngram: int = Field(default=13, ge=3)
    near_duplicate: float | None = Field(default=0.8, gt=0, le=1)
    shingle: int = Field(default=5, ge=1)
    responses: bool = True
    """false looks at prompts only."""

    @field_validator("against", mode="before")
    @classmethod
    def _plain_paths(cls, value: Any) -> Any:
        """`gsm8k: path` stands for `gsm8k: {path: path}`."""
        if not isinstance(value, Mapping):
            return value
        return {
            name: {"path": one} if isinstance(one, str) else one or {}
            for name, one in value.items()
        }


def decontaminate(context: UnitContext) -> dict[str, Any]:
    """Write `removed/`, and count what was looked at and found.

    Inputs: `prompts`, `sample/<source>`. Settings: `decontaminate`, and `tasks`, the prompt
    entries of the recipe's own evaluation by name.
    """
    settings: DecontaminateSettings = context.settings["decontaminate"]
    unread: Counter[str] = Counter()
    items = list(_items(settings, context.settings["tasks"], unread))
    if not items:
        raise EmptyError(
            f"{context.name}: no benchmark has any item. Name some under 'against', or leave the "
            "section out."
        )
    known = HeldOutItems(items, settings.ngram, settings.near_duplicate, settings.shingle)
    samples = _samples(context.inputs) if settings.responses else {}
    prompts = context.inputs["prompts"] / "prompts"
    total = count_rows(prompts) + sum(map(count_rows, samples.values()))
    context.progress.start(total, "texts")
    write_table(context.folder / "removed", _found(context, known, prompts, samples), Contaminated)
    return _counts(context.folder / "removed", items, unread, known, total)


def removed_ids(unit: Path) -> tuple[set[str], set[str]]:
    """Ids of the prompts, and of the responses, that a finished unit removed."""
    prompts: set[str] = set()
    responses: set[str] = set()
    for row in read_dicts(unit / "removed", ["what", "prompt_id", "response_id"]):
        if row["what"] == "prompt":
            prompts.add(row["prompt_id"])
        else:
            responses.add(row["response_id"])
    return prompts, responses


def _items(
    settings: DecontaminateSettings, tasks: Mapping[str, Any], unread: Counter[str]
) -> Iterator[Item]:
    from fusechat.tasks._benchmarks import CATALOGUE, read_items

    for name, own in settings.against.items():
        published = CATALOGUE.get(name)
        path = own.path or (published.path if published else None)
        assert path is not None  # told by `benchmark_faults`
        split = own.split or (published.split if published else "test")
        config = own.name or (published.name if published and not own.path else None)
        for item in read_items(name, path, config, split, own.revision):
            if isinstance(item, Item):
                yield item
            else:
                unread[name] += 1
    if settings.evaluation:
        for name, entry in tasks.items():
            yield from _of_task(name, entry["part"], entry["split"])


def _of_task(name: str, task: Task, split: str | None) -> Iterator[Item]:
    for row in task.prompts(split or task.splits[0]):
        if isinstance(row, Prompt):
            turns = [turn.content for turn in row.messages if turn.role == "user"]
            yield Item(name, row.id, tuple(turns), (row.reference,) if row.reference else ())


def benchmark_faults(settings: DecontaminateSettings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Benchmarks of which it is not said where they are: (key, message)."""
    from fusechat.tasks._benchmarks import CATALOGUE

    for name, own in settings.against.items():
        published = CATALOGUE.get(name)
        if own.path is None and (published is None or published.path is None):
            home = f" It is published at {published.home}." if published else ""
            known = ", ".join(sorted(CATALOGUE))
            yield ("against", name), f"say where it is: 'path: FILE'.{home} Known names: {known}."
        elif own.revision is None and not Path(own.path or "?").exists():
            hub = own.path or (published.path if published else "")
            yield (
                ("against", name),
                f"there is no file {hub}; as a hub id it needs its commit: 'revision: ...' (40 hex "
                "digits, from its page under Files).",
            )


def _samples(inputs: Mapping[str, Path]) -> dict[str, Path]:
    return {
        name.removeprefix("sample/"): folder / "data"
        for name, folder in inputs.items()
        if name.startswith("sample/")
    }


def _found(
    context: UnitContext, known: HeldOutItems, prompts: Path, samples: Mapping[str, Path]
) -> Iterator[Contaminated]:
    places: dict[str, tuple[str, str]] = {}
    for prompt in read_table(prompts, Prompt):
        places[prompt.id] = prompt.origin, prompt.domain
        texts = [turn.content for turn in prompt.messages if turn.role == "user"]
        context.progress.advance(1)
        yield from _rows(known, texts, what="prompt", prompt_id=prompt.id, origin=prompt.origin,
                         domain=prompt.domain)  # fmt: skip
    for source, folder in samples.items():
        for row in read_dicts(folder, ["id", "prompt_id", "text"]):
            origin, domain = places[row["prompt_id"]]
            context.progress.advance(1)
            yield from _rows(known, [row["text"]], what="response", prompt_id=row["prompt_id"],
                             response_id=row["id"], source=source, origin=origin,
                             domain=domain)  # fmt: skip


def _rows(known: HeldOutItems, texts: Iterable[str], **names: Any) -> Iterator[Contaminated]:
    """A row for each benchmark of which any of the texts has an item."""
    found: dict[str, Match] = {}
    for text in texts:
        for match in known.matches(text):
            found.setdefault(match.item.benchmark, match)
    for benchmark, match in found.items():
        yield Contaminated(
            benchmark=benchmark, item=match.item.name, kind=match.kind, runs=match.runs,
            jaccard=match.jaccard, words=match.words[:WORDS_KEPT], **names,
        )  # fmt: skip


def _counts(
    removed: Path, items: list[Item], unread: Counter[str], known: HeldOutItems, looked: int
) -> dict[str, Any]:
    benchmarks: dict[str, dict[str, int]] = {
        name: {"items": count, "unread": unread[name], "prompts": 0, "responses": 0}
        for name, count in Counter(item.benchmark for item in items).items()
    }
    sources: Counter[str] = Counter()
    gone: dict[str, set[str]] = {"prompt": set(), "response": set()}
    for row in read_dicts(removed):
        benchmarks[row["benchmark"]][f"{row['what']}s"] += 1
        own = row["response_id"] or row["prompt_id"]
        if row["what"] == "response" and own not in gone["response"]:
            sources[row["source"]] += 1
        gone[row["what"]].add(own)
    return {
        "looked_at": looked,
        "removed_prompts": len(gone["prompt"]),
        "removed_responses": len(gone["response"]),
        "benchmarks": benchmarks,
        "by_source": dict(sources),
        "common_runs": known.common,
    }

"""The rows of a training unit: what is trained on, what is held out, what is left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.errors import TrainingError
from fusechat.records import SIDES, Demonstration, Dropped, Pair, Triple
from fusechat.stages.build_rows import BUILDS, dpo_row_type, training_tables
from fusechat.stages.held_out import LEAST_ROWS, Row, choose_held_out, split_places
from fusechat.stages.train_rows import encode_rows
from fusechat.tables import read_dicts, read_table
from fusechat.training.examples import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fusechat.stages.context import UnitContext
    from fusechat.stages.train_settings import TrainingSettings

ROW_TYPES: dict[str, type[Row]] = {
    "Demonstration": Demonstration, "Pair": Pair, "Triple": Triple,
}  # fmt: skip


@dataclass(frozen=True)
class TrainingTables:
    """The tables that a unit trains on, in their order."""

    paths: Sequence[Path]
    row_type: type[Row]

    def rows(self) -> Iterator[Row]:
        """All rows, table by table."""
        for path in self.paths:
            yield from read_table(path, self.row_type)


@dataclass(frozen=True)
class TrainingData:
    """A unit's rows as token ids, on their sides."""

    examples: list[Example]
    """To train on."""
    held_out: list[Example]
    """To look at only."""
    held_places: frozenset[int]
    """Places of the held-out rows in the tables."""
    dropped: list[Dropped]

    def counts(self, asked: float) -> dict[str, Any]:
        """For the manifest; `asked`: the share of rows that was to be held out."""
        reasons = Counter(row.reason for row in self.dropped)
        truncated = sum(example.truncated for example in self.examples)
        counts: dict[str, Any] = {"rows": len(self.examples)}
        if asked:
            counts["held_out"] = len(self.held_out)
        counts["dropped"] = len(self.dropped)
        if reasons:
            counts["reasons"] = dict(reasons.most_common())
        counts["response_tokens"] = sum(e.response_tokens for e in self.examples)
        return {**counts, "truncated": truncated} if truncated else counts

    def notes(self, asked: float) -> Iterator[str]:
        """What to tell of the rows that are not trained on."""
        if self.dropped:
            reasons = Counter(row.reason for row in self.dropped).most_common()
            said = ", ".join(f"{count} {reason}" for reason, count in reasons)
            yield f"{len(self.dropped)} rows are left out: {said}"
        rows = len(self.examples) + len(self.held_out)
        if self.held_out:
            yield f"{len(self.held_out)} of {rows} rows are held out to look at"
        elif asked:
            yield (
                f"no rows are held out: {asked:.3g} of {rows} rows would be fewer than "
                f"{LEAST_ROWS}, too few to tell anything"
            )


def find_tables(context: UnitContext, table: str) -> TrainingTables:
    """The tables `sft` or `dpo` of the unit's builds.

    Raises `TrainingError` where the loss cannot learn from their rows.
    """
    paths = training_tables(context.inputs, table)
    wanted = context.settings.loss.consumes
    for path in paths:
        found = Demonstration if table == "sft" else dpo_row_type(path.parent)
        if found.__name__ != wanted:
            raise TrainingError(
                f"{context.name}: the loss '{context.settings.loss.part_name()}' learns from "
                f"{wanted} rows ({', '.join(SIDES[wanted])}), and {path} has {found.__name__} "
                "rows. Choose a loss for those, or strategies that make the others."
            )
    return TrainingTables(paths, ROW_TYPES[wanted])


def read_data(
    tables: TrainingTables,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainingSettings,
    seed: int,
) -> TrainingData:
    """All rows of the tables as token ids, split into those to train on and those held out."""
    kept: list[Example] = []
    places: list[int] = []
    dropped: list[Dropped] = []
    encoded = encode_rows(
        tokenizer, tables.rows(), settings.max_length, settings.over_length,
        settings.max_prompt_length,
    )  # fmt: skip
    for place, one in enumerate(encoded):
        if isinstance(one, Dropped):
            dropped.append(one)
        else:
            kept.append(one)
            places.append(place)
    prompts = [example.prompt_id for example in kept]
    held = choose_held_out(prompts, settings.held_out, seed)
    trained, looked_at = split_places(prompts, held)
    return TrainingData(
        [kept[number] for number in trained],
        [kept[number] for number in looked_at],
        frozenset(places[number] for number in looked_at),
        dropped,
    )


def held_out_rows(tables: TrainingTables, data: TrainingData) -> Iterator[Row]:
    """The held-out rows as they stand in the tables."""
    return (row for place, row in enumerate(tables.rows()) if place in data.held_places)


def nothing_to_train_on(
    name: str, inputs: Mapping[str, Path], table: str, data: TrainingData, max_length: int
) -> TrainingError:
    """What to say where no row is left for training."""
    if data.dropped:
        reasons = Counter(row.reason for row in data.dropped).most_common(3)
        said = ", ".join(f"'{reason}' ({count})" for reason, count in reasons)
        return TrainingError(
            f"{name}: all {len(data.dropped)} rows to train on are left out: {said}. Raise "
            f"max_length ({max_length}) or max_prompt_length where they are too long; every row "
            "stands in the unit's dropped/ with its reason."
        )
    wanted = [unit for unit in BUILDS if unit in inputs]
    build = inputs[wanted[0 if table == "sft" else -1]] if wanted else None
    if build is None:
        return TrainingError(f"{name}: there is no build to train on.")
    path = build / "dropped"
    reasons_of_build: Counter[str] = Counter()
    if path.is_dir():
        found = read_dicts(path, ["stage", "reason"])
        reasons_of_build.update(row["reason"] for row in found if row["stage"] == table)
    commonest = ", ".join(f"'{one}' ({count})" for one, count in reasons_of_build.most_common(3))
    return TrainingError(
        f"{name}: the data set is empty, {build / table} has no rows. "
        + (f"Prompts were dropped there for: {commonest}. " if commonest else "")
        + f"Loosen the {table} strategies of the build, or give it more prompts; every dropped "
        f"prompt stands in {path} with its reason."
    )

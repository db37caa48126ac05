"""The second pass of a build: the rows of `sft/` and `dpo/`, with their texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.groups import Array
from fusechat.records import Demonstration, Pair, Triple
from fusechat.stages.decisions import Decisions
from fusechat.stages.groups import Tables
from fusechat.stages.picks import Picks
from fusechat.tables import TableWriter, arrow_schema, read_columns, shards

PROMPTS = 500
"""Prompts whose picked texts are in memory at once."""


BUILDS = ("build", "build/on_policy")
"""Units that make tables to train on."""


def dpo_row_type(folder: Path) -> type[Pair] | type[Triple]:
    """The row type of the table `dpo` of a build's folder, told from its columns."""
    names = pq.read_schema(shards(folder / "dpo")[0]).names
    return Triple if "source_chosen" in names else Pair


def training_tables(inputs: Mapping[str, Path], table: str) -> list[Path]:
    """The tables `sft` or `dpo` of a training unit's builds, in the order in which they are read.

    `inputs`: unit -> folder. A build that makes no such table has none.
    """
    found = [inputs[unit] / table for unit in BUILDS if unit in inputs]
    return [path for path in found if shards(path)]


def write_rows(
    folder: Path,
    tables: Tables,
    decisions: Decisions,
    row_types: Mapping[str, type[Demonstration] | type[Pair] | type[Triple]],
) -> None:
    """Write the tables side by side, so that each shard of responses is read once.

    `row_types`: of the tables to write, `sft` and `dpo` or one of them.
    """
    writers = {
        table: TableWriter(folder / table, arrow_schema(row_type))
        for table, row_type in row_types.items()
    }
    rows = {table: decisions.rows(table) for table in writers}
    owners = {table: decisions.picks[table].prompt[at] for table, at in rows.items()}
    wanted = (key for t, at in rows.items() for key in _keys(decisions.picks[t], at))
    texts = Texts(list(tables.samples.values()), wanted)
    first = 0
    for path in shards(tables.prompts / "prompts"):
        prompts = read_columns(path, ["id", "messages", "origin", "domain"])
        for start in range(0, len(prompts), PROMPTS):
            block = prompts.slice(start, PROMPTS)
            ends = (first, first + len(block))
            found = {
                table: decisions.picks[table].take(at[slice(*np.searchsorted(owners[table], ends))])
                for table, at in rows.items()
            }
            texts.load(key for picks in found.values() for key in _keys(picks, slice(None)))
            for table, picks in found.items():
                if len(picks):
                    owner = block.take(pa.array(picks.prompt - first))
                    writers[table].add(
                        _rows(row_types[table], picks, owner, texts, decisions.sources)
                    )
            first += len(block)
    for writer in writers.values():
        writer.close()


class Texts:
    """Ids and texts of the responses that are wanted, shard by shard as they are needed.

    Of a shard only the wanted rows are kept, and only as long as blocks of prompts need them.
    """

    def __init__(self, units: Sequence[Path], wanted: Iterable[Array]) -> None:
        """`wanted`: keys of responses, as `keys_of` gives them."""
        self._files = [shards(unit / "data") for unit in units]
        keys = np.concatenate([np.zeros(0, np.int64), *wanted])
        keys.sort()  # `np.unique` would hold three copies
        self._wanted = keys[np.diff(keys, prepend=-1) != 0]
        self._loaded: dict[int, pa.Table] = {}
        self._shards = self._offset = np.zeros(0, np.int64)

    def load(self, keys: Iterable[Array]) -> None:
        """Read the shards that hold some responses, and let go of all others."""
        needed = np.unique(np.concatenate([key // _ROWS for key in keys]))
        self._loaded = {
            shard: self._loaded[shard] if shard in self._loaded else self._read(shard)
            for shard in needed.tolist()
        }
        begins = np.searchsorted(self._wanted, needed * _ROWS)
        self._offset = begins - np.cumsum([0, *map(len, self._loaded.values())])[:-1]
        self._shards = needed

    def of(self, keys: Array) -> pa.Table:
        """`id` and `text` of some responses of the loaded shards."""
        offset = self._offset[np.searchsorted(self._shards, keys // _ROWS)]
        found = pa.concat_tables(self._loaded.values())
        return found.take(pa.array(np.searchsorted(self._wanted, keys) - offset))

    def _read(self, shard: int) -> pa.Table:
        source, file = divmod(shard, _FILES)
        ends = np.searchsorted(self._wanted, [shard * _ROWS, (shard + 1) * _ROWS])
        rows = self._wanted[slice(*ends)] % _ROWS
        return read_columns(self._files[source][file], ["id", "text"]).take(pa.array(rows))


_FILES = _ROWS = 1 << 24


def keys_of(source: Array, place: Array) -> Array:
    """One number for each response: source, shard and row. int64."""
    shard = source.astype(np.int64) * _FILES + place[:, 0]
    return shard * _ROWS + place[:, 1]


def _keys(picks: Picks, at: Array | slice) -> list[Array]:
    """The keys of all responses of some picks."""
    found = []
    for side in ("", "second_", "other_"):
        source, place = getattr(picks, f"{side}source")[at], getattr(picks, f"{side}place")[at]
        found.append(keys_of(source[source >= 0], place[source >= 0]))
    return found


def _rows(
    row_type: type[Demonstration] | type[Pair] | type[Triple],
    picks: Picks,
    owners: pa.Table,
    texts: Texts,
    sources: tuple[str, ...],
) -> pa.Table:
    """`owners`: the prompt of each pick."""
    common = {
        "prompt_id": owners["id"],
        "messages": owners["messages"],
        "source": _words(picks.source, sources),
        "origin": owners["origin"],
        "domain": owners["domain"],
        "reason": _words(picks.why, picks.reasons),
        "weight": pa.array(picks.weight),
    }
    own: dict[str, Any] = {}
    for name, side in _SIDES[row_type].items():
        keys = keys_of(getattr(picks, f"{side}source"), getattr(picks, f"{side}place"))
        found = texts.of(keys)
        own |= {name: found["text"], f"{name}_id": found["id"]}
        score = "score" if row_type is Demonstration else f"{name}_score"
        own[score] = _numbers(getattr(picks, f"{side}score"))
    if row_type is not Demonstration:
        own["margin"] = _numbers(picks.margin)
    if row_type is Pair:
        own["rejected_source"] = _words(picks.other_source, sources)
    if row_type is Triple:
        own["target_source"] = _words(picks.second_source, sources)
    return pa.table(common | own)


_SIDES: dict[type[Demonstration] | type[Pair] | type[Triple], dict[str, str]] = {
    Demonstration: {"response": ""},
    Pair: {"chosen": "", "rejected": "other_"},
    Triple: {"source_chosen": "", "target_chosen": "second_", "rejected": "other_"},
}
"""Row type -> its responses, and how the columns of `Picks` begin that say where each stands."""


def _words(codes: Array, words: tuple[str, ...]) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(codes))


def _numbers(values: Array) -> pa.Array:
    return pa.array(values, pa.float64(), mask=np.isnan(values))

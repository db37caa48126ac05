"""All responses of a workspace with their scores, as columns, prompt block by prompt block.

Texts stay on disk: each row knows the shard (`file`) and the place in it (`row`) where its
text is. The tables are read side by side, so that memory does not grow with them; a table
that is not in the order of the prompts (none of the executor's is so) is read whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusechat.groups import FINISHES, STATUSES, Array, Groups, Judgements
from fusechat.stages.decontaminate import removed_ids
from fusechat.stages.slim import RESPONSES, SCORES, responses, scores
from fusechat.stages.streams import Cursor, Found, batched, starts_of
from fusechat.tables import read_columns, shards

PROMPTS = 1000
"""Prompts of a block."""


@dataclass(frozen=True)
class PromptTable:
    """What identifies and places each prompt, in prompt-table order; `[prompts]` each."""

    ids: pa.Array
    domain: Array
    """Position in `domains`, int32."""
    domains: tuple[str, ...]
    origin: Array
    """Position in `origins`, int32."""
    origins: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def names(self, at: Array) -> Array:
        """The ids of some prompts as UTF-8 (`S`): a quarter of the memory that texts need."""
        parts = [np.zeros(0, "S1")]
        for start in range(0, len(at), PROMPTS):
            some = self.ids.take(pa.array(at[start : start + PROMPTS]))
            parts.append(np.array(some.cast(pa.binary()).to_pylist(), "S"))
        return np.concatenate(parts)

    @classmethod
    def read(cls, unit: Path) -> PromptTable:
        """Read that of a prompts unit."""
        ids, domains, origins = [pa.nulls(0, pa.string())], Codes(), Codes()
        for path in shards(unit / "prompts"):
            part = read_columns(path, ["id", "domain", "origin"])
            ids.append(pa.concat_arrays([ids[0], *part["id"].chunks]))  # a copy without slack
            domains.add(part["domain"])
            origins.add(part["origin"])
        joined = pa.concat_arrays(ids)
        table = cls(joined, domains.all(), domains.words(), origins.all(), origins.words())
        names = np.sort(table.names(np.arange(len(table))))
        # Counting needs ten times the memory of the ids, so only what looks equal is counted.
        if (names[1:] == names[:-1]).any() and pc.count_distinct(joined).as_py() < len(joined):
            raise ValueError("a prompt id occurs twice in the prompt table")
        return table


@dataclass(frozen=True)
class Tables:
    """Where the tables of a build's inputs are."""

    prompts: Path
    samples: Mapping[str, Path]
    """Source, in recipe order -> its unit's folder."""
    annotations: Mapping[str, tuple[Path, ...]]
    """Annotator -> its units' folders, one or one for each source."""
    ledger: Path | None = None
    """The unit that lists contaminated prompts and responses, where there is one."""

    @classmethod
    def of(cls, inputs: Mapping[str, Path]) -> Tables:
        """`inputs`: `prompts`, `sample/<source>` in recipe order, `annotate/<annotator>` or
        `annotate/<annotator>@<source>` -> unit folder."""
        annotations: dict[str, list[Path]] = defaultdict(list)
        for name, folder in _named(inputs, "annotate/").items():
            annotations[name.partition("@")[0]].append(folder)
        return cls(
            inputs["prompts"],
            _named(inputs, "sample/"),
            {name: tuple(folders) for name, folders in annotations.items()},
            inputs.get("decontaminate"),
        )

    def __hash__(self) -> int:
        return hash((self.prompts, *self.samples.values()))

    @cached_property
    def removed(self) -> tuple[Array, Array]:
        """Ids of the contaminated prompts, and of the contaminated responses; none is chosen."""
        found = removed_ids(self.ledger) if self.ledger else (set(), set())
        prompts, responses = (np.array(sorted(ids), object) for ids in found)
        return prompts, responses

    def contaminated(self, prompts: PromptTable) -> Array:
        """Which prompts of their table are contaminated, bool `[prompts]`."""
        at = pc.index_in(prompts.ids, value_set=pa.array(self.removed[0], pa.string()))
        return np.asarray(pc.is_valid(at).to_numpy(zero_copy_only=False))

    @cached_property
    def scored(self) -> list[Path]:
        """The folders of all annotate units."""
        return [folder for folders in self.annotations.values() for folder in folders]


def blocks(
    inputs: Mapping[str, Path],
    prompts_per_block: int = PROMPTS,
    prompts: PromptTable | None = None,
) -> Iterator[Groups]:
    """The judged responses to all prompts, in prompt-table order, some prompts at a time.

    `inputs`: see `Tables.of`. `prompts`: their table, where it was read already. Columns of the
    groups beyond the usual: `file`, `row`.
    """
    tables = Tables.of(inputs)
    if prompts is None:
        prompts = PromptTable.read(inputs["prompts"])
    reader = _reader(tables, prompts, prompts_per_block)
    if reader is None:
        everything = _groups(prompts, tables, *_all(tables, prompts.ids))
        for first in range(0, len(prompts), prompts_per_block):
            yield everything.take(range(first, min(first + prompts_per_block, len(prompts))))
        return
    for first in range(0, len(prompts), prompts_per_block):
        some = _slice(prompts, first, prompts_per_block)
        yield _groups(some, tables, *reader.next(some.ids))


def groups_of(inputs: Mapping[str, Path], prompt_id: str) -> Groups:
    """The judged responses to one prompt, wherever they stand in the tables."""
    tables, prompts = Tables.of(inputs), PromptTable.read(inputs["prompts"])
    found = pc.index(prompts.ids, prompt_id).as_py()
    some = _slice(prompts, found, 1)
    return _groups(some, tables, *_all(tables, some.ids))


def texts_of(inputs: Mapping[str, Path], groups: Groups, rows: Iterable[int]) -> dict[int, str]:
    """The texts of some responses of `groups`, read from their shards."""
    folders = list(Tables.of(inputs).samples.values())
    by_shard: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in sorted(set(rows)):
        place = (int(groups.columns["source"][row]), int(groups.columns["file"][row]))
        by_shard[place].append(row)
    found: dict[int, str] = {}
    for (source, file), members in by_shard.items():
        path = shards(folders[source] / "data")[file]
        column = read_columns(path, ["text"])["text"]
        taken = column.take(pa.array(groups.columns["row"][members])).to_pylist()
        found.update(zip(members, taken, strict=True))
    return found


class Codes:
    """Codes for the words of a text column that comes in parts, in order of appearance."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._parts: list[Array] = [np.zeros(0, np.int32)]

    def add(self, column: pa.ChunkedArray) -> Array:
        """The codes of one part, int32."""
        one = column.combine_chunks().dictionary_encode()
        words = [self._known.setdefault(w, len(self._known)) for w in one.dictionary.to_pylist()]
        self._parts.append(np.array(words, np.int32)[one.indices.to_numpy()])
        return self._parts[-1]

    def all(self) -> Array:
        """The codes of all parts."""
        return np.concatenate(self._parts)

    def words(self) -> tuple[str, ...]:
        """What the codes stand for."""
        return tuple(self._known)


def _named(inputs: Mapping[str, Path], prefix: str) -> dict[str, Path]:
    return {
        unit.removeprefix(prefix): folder
        for unit, folder in inputs.items()
        if unit.startswith(prefix)
    }


def _slice(prompts: PromptTable, first: int, count: int) -> PromptTable:
    part = slice(first, first + count)
    return PromptTable(
        prompts.ids[part], prompts.domain[part], prompts.domains,
        prompts.origin[part], prompts.origins,
    )  # fmt: skip


Starts = Mapping[int, tuple[int, int]]
"""Source -> file and row where its scores begin."""
_OWNERS = pa.schema([RESPONSES.field("id"), RESPONSES.field("prompt_id")])
_KEYS = pa.schema([SCORES.field("response_id")])


class _Reader:
    """The rows of the tables side by side, where all are in prompt order."""

    def __init__(
        self,
        tables: Tables,
        starts: Mapping[Path, Starts],
        owned: pa.Schema = RESPONSES,
        judged: pa.Schema = SCORES,
    ) -> None:
        """`starts`: of the annotate units whose scores stand source after source."""
        self._samples = [
            Cursor(batched(responses(unit, owned.names)), owned, "prompt_id")
            for unit in tables.samples.values()
        ]
        self._scores = {
            name: [one for unit in units for one in _cursors(unit, starts.get(unit), judged)]
            for name, units in tables.annotations.items()
        }

    def next(self, ids: pa.Array) -> tuple[list[Found], dict[str, list[Found]]]:
        """The responses to these prompts by source, and their scores by annotator."""
        found = [cursor.leading(ids) for cursor in self._samples]
        known = _ids([one.table for one in found])
        # As the annotate stage writes them: by prompt, source, sample.
        order = np.argsort(np.concatenate([one.at for one in found]), kind="stable")
        sorted_ids = known.take(pa.array(order)) if self._scores else known
        judged: dict[str, list[Found]] = {}
        for name, cursors in self._scores.items():
            judged[name] = []
            for source, cursor in cursors:
                if source is None:
                    part = cursor.leading(sorted_ids)
                    judged[name].append(Found(part.table, order[part.at]))
                    continue
                before = sum(len(one) for one in found[:source])
                part = cursor.leading(known[before : before + len(found[source])])
                judged[name].append(Found(part.table, part.at + before))
        return found, judged

    def undone(self) -> tuple[bool, set[str]]:
        """Whether any response is left over, and of which annotators there are scores left."""
        left = {
            name for name, cursors in self._scores.items() if not all(c.done for _, c in cursors)
        }
        return not all(cursor.done for cursor in self._samples), left


def _reader(tables: Tables, prompts: PromptTable, per_block: int) -> _Reader | None:
    """None where a table is in no known order.

    Samples are in prompt order. Scores are so, too, or source after source, each in prompt
    order (as earlier versions wrote them). Only what is read to its end is in order, so the
    keys of all tables are read once before the tables are.
    """
    keys = _Reader(tables, {}, _OWNERS, _KEYS)
    for first in range(0, len(prompts), per_block):
        keys.next(prompts.ids[first : first + per_block])
    left_over, unknown = keys.undone()
    if left_over:
        return None
    starts: dict[Path, Starts] = {}
    for unit in (unit for name in unknown for unit in tables.annotations[name]):
        ids = (
            (source, table["id"])
            for source, folder in enumerate(tables.samples.values())
            for table in responses(folder, ["id"])
        )
        judged = enumerate(table["response_id"] for table in scores(unit, ["response_id"]))
        by_source = starts_of(judged, ids)
        if by_source is None:
            return None
        starts[unit] = by_source
    return _Reader(tables, starts)


def _cursors(
    unit: Path, starts: Starts | None, schema: pa.Schema
) -> list[tuple[int | None, Cursor]]:
    """A place in the scores of each source (or of all: None) of one unit."""
    places: dict[int | None, tuple[int, int]] = {None: (0, 0)}
    if starts is not None:
        places = {source: place for source, place in starts.items()}  # noqa: C416 - wider key
    return [
        (source, Cursor(batched(scores(unit, schema.names, file)), schema, "response_id", row))
        for source, (file, row) in places.items()
    ]


def _ids(found: Sequence[pa.Table]) -> pa.Array:
    chunks = [chunk for one in found for chunk in one["id"].chunks]
    return pa.chunked_array(chunks, pa.string()).combine_chunks()


def _all(tables: Tables, ids: pa.Array) -> tuple[list[Found], dict[str, list[Found]]]:
    """All responses to these prompts by source, and their scores by annotator, in any order."""
    found = [
        Found.among(responses(unit), RESPONSES, "prompt_id", ids)
        for unit in tables.samples.values()
    ]
    known = _ids([one.table for one in found])
    judged = {
        name: [
            Found.among(scores(unit, SCORES.names), SCORES, "response_id", known) for unit in units
        ]
        for name, units in tables.annotations.items()
    }
    return found, judged


def _groups(
    prompts: PromptTable,
    tables: Tables,
    found: Sequence[Found],
    judged: Mapping[str, Sequence[Found]],
) -> Groups:
    table = pa.concat_tables([RESPONSES.empty_table(), *(one.table for one in found)])
    owner = np.concatenate([np.zeros(0, np.int32), *(one.at for one in found)]).astype(np.int32)
    source = np.repeat(np.arange(len(found), dtype=np.int16), [len(one) for one in found])
    columns: dict[str, Array] = {"prompt": owner, "source": source, **_columns(table)}
    order = np.lexsort((columns["index"], source, owner))
    if tables.ledger is not None:
        order = order[_kept(tables, table["id"], prompts, owner)[order]]
    columns = {name: values[order] for name, values in columns.items()}
    count = len(prompts)
    return Groups(
        prompt_ids=tuple(prompts.ids.to_pylist()),
        domains=tuple(prompts.domains[code] for code in prompts.domain),
        sources=tuple(tables.samples),
        columns=columns,
        starts=np.searchsorted(columns["prompt"], np.arange(count + 1)),
        judgements={n: _judgements(parts, len(table)).take(order) for n, parts in judged.items()},
    )


def _kept(tables: Tables, ids: pa.ChunkedArray, prompts: PromptTable, owner: Array) -> Array:
    """Which responses neither are contaminated nor answer a contaminated prompt, bool."""
    removed = pa.array(tables.removed[1], pa.string())
    own = pc.is_valid(pc.index_in(ids, value_set=removed)).to_numpy()
    kept: Array = ~(own | tables.contaminated(prompts)[owner])
    return kept


def _columns(table: pa.Table) -> dict[str, Array]:
    finish = pc.index_in(table["finish"], value_set=pa.array(FINISHES))
    return {
        "id": table["id"].to_numpy(),
        "index": table["index"].to_numpy(),
        "finish": finish.to_numpy().astype(np.int8),
        "whole": table["whole"].to_numpy(),
        "digest": _hex(table["digest"]),
        "tokens": pc.fill_null(table["tokens"], -1).to_numpy(),
        "file": table["file"].to_numpy(),
        "row": table["row"].to_numpy(),
    }


def _hex(column: pa.ChunkedArray) -> Array:
    """Digests of 8 bytes as text, `S16`."""
    parts = [
        memoryview(chunk.buffers()[1])[8 * chunk.offset :][: 8 * len(chunk)].hex()
        for chunk in column.chunks
        if len(chunk)
    ]
    return np.frombuffer("".join(parts).encode(), "S16")


def _judgements(found: Sequence[Found], count: int) -> Judgements:
    status = np.full(count, -1, np.int8)
    value = np.full(count, np.nan)
    reason = np.zeros(count, np.int32)
    reasons = Codes()
    for one in found:
        table = one.table
        codes = pc.index_in(table["status"], value_set=pa.array(STATUSES)).to_numpy()
        status[one.at] = codes
        value[one.at] = table["value"].to_numpy()
        reason[one.at] = reasons.add(table["reason"])
    return Judgements(status, value, reason, reasons.words() or ("",))

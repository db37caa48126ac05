"""All responses of a workspace with their scores, grouped by prompt; texts stay on disk.

Held in memory are ids, digests and scores, in arrays (about 100 bytes a response and 20 a
score); a strategy needs no more. Texts are read again for the picked responses only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fusechat.digests import digest_bytes
from fusechat.parts import Group, Judged, Seen
from fusechat.records import Status, is_whole
from fusechat.tables import read_dicts, shards

STATUSES: tuple[Status, ...] = ("ok", "unscorable", "error")
_COLUMNS = ["id", "prompt_id", "index", "text", "finish", "tokens"]


@dataclass(frozen=True)
class PromptKey:
    """What identifies and places a prompt."""

    id: str
    domain: str
    origin: str


@dataclass(frozen=True)
class Judgements:
    """One annotator's scores, aligned with the responses of a `Pool`; `[responses]` each."""

    status: np.ndarray[Any, Any]
    """Position in `STATUSES`; -1 where there is no score."""
    value: np.ndarray[Any, Any]
    reason: np.ndarray[Any, Any]
    """Position in `reasons`."""
    reasons: tuple[str, ...]

    def at(self, row: int) -> Judged | None:
        """The judgement of one response."""
        status = int(self.status[row])
        if status < 0:
            return None
        value = float(self.value[row]) if status == 0 else None
        return Judged(STATUSES[status], value, self.reasons[int(self.reason[row])])


@dataclass(frozen=True)
class Pool:
    """The responses to `prompts`, sorted by prompt, source and sample index."""

    prompts: tuple[PromptKey, ...]
    sources: tuple[str, ...]
    """In recipe order."""
    files: tuple[tuple[Path, ...], ...]
    """Shards of each source."""
    columns: Mapping[str, np.ndarray[Any, Any]]
    """`id, prompt, source, index, finish, whole, digest, tokens, shard, row`, `[responses]`."""
    starts: np.ndarray[Any, Any]
    """`[prompts + 1]`: rows `starts[p]` to `starts[p + 1]` belong to prompt `p`."""
    judgements: Mapping[str, Judgements]

    @classmethod
    def read(cls, inputs: Mapping[str, Path], only: str | None = None) -> Pool:
        """Read the tables of a build's inputs; `only`: the prompt with this id alone.

        `inputs`: `prompts`, `sample/<source>` in recipe order, `annotate/<annotator>` or
        `annotate/<annotator>@<source>` -> unit folder.
        """
        rows = read_dicts(inputs["prompts"] / "prompts", ["id", "domain", "origin"])
        prompts = tuple(PromptKey(**row) for row in rows if only in (None, row["id"]))
        samples = _named(inputs, "sample/")
        sources = tuple(name for name, _ in samples)
        files = tuple(tuple(shards(folder / "data")) for _, folder in samples)
        columns = _responses(prompts, files)
        starts = np.searchsorted(columns["prompt"], np.arange(len(prompts) + 1))
        annotations: dict[str, list[Path]] = defaultdict(list)
        for name, folder in _named(inputs, "annotate/"):
            annotations[name.partition("@")[0]].append(folder / "data")
        ids = pa.array(columns["id"], pa.string())
        judgements = {name: _judgements(ids, folders) for name, folders in annotations.items()}
        return cls(prompts, sources, files, columns, starts, judgements)

    def __len__(self) -> int:
        return len(self.columns["id"])

    def group(self, prompt: int, sources: Iterable[str] | None = None) -> tuple[Group, list[int]]:
        """The responses to one prompt, of `sources` where given, and their rows in this pool."""
        wanted = [s for s in self.sources if sources is None or s in set(sources)]
        rows = [
            row
            for row in range(int(self.starts[prompt]), int(self.starts[prompt + 1]))
            if self.sources[self.columns["source"][row]] in wanted
        ]
        key = self.prompts[prompt]
        seen = tuple(self._seen(row) for row in rows)
        return Group(key.id, key.domain, tuple(wanted), seen), rows

    def texts(self, rows: Iterable[int]) -> dict[int, str]:
        """The texts of some responses, read from their shards."""
        by_shard: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row in sorted(set(rows)):
            place = (int(self.columns["source"][row]), int(self.columns["shard"][row]))
            by_shard[place].append(row)
        found: dict[int, str] = {}
        for (source, shard), members in by_shard.items():
            column = pq.read_table(self.files[source][shard], columns=["text"]).column("text")
            texts = column.take(pa.array(self.columns["row"][members])).to_pylist()
            found.update(zip(members, texts, strict=True))
        return found

    def _seen(self, row: int) -> Seen:
        at = self.columns
        judged = {name: column.at(row) for name, column in self.judgements.items()}
        tokens = int(at["tokens"][row])
        return Seen(
            response_id=at["id"][row],
            source=self.sources[at["source"][row]],
            index=int(at["index"][row]),
            finish=at["finish"][row],
            whole=bool(at["whole"][row]),
            text_digest=at["digest"][row].decode(),
            tokens=None if tokens < 0 else tokens,
            scores={name: score for name, score in judged.items() if score is not None},
        )


def _named(inputs: Mapping[str, Path], prefix: str) -> list[tuple[str, Path]]:
    return [
        (unit.removeprefix(prefix), folder)
        for unit, folder in inputs.items()
        if unit.startswith(prefix)
    ]


def _responses(
    prompts: Sequence[PromptKey], files: Sequence[Sequence[Path]]
) -> dict[str, np.ndarray[Any, Any]]:
    positions = {key.id: number for number, key in enumerate(prompts)}
    if len(positions) != len(prompts):
        raise ValueError("a prompt id occurs twice in the prompt table")
    parts = [
        part
        for source, paths in enumerate(files)
        for shard, path in enumerate(paths)
        if (part := _shard(path, positions, source, shard)) is not None
    ]
    if not parts:
        parts = [_columns([], [], 0, 0)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort(tuple(columns[name] for name in ("index", "source", "prompt")))
    return {name: values[order] for name, values in columns.items()}


def _shard(
    path: Path, positions: Mapping[str, int], source: int, shard: int
) -> dict[str, np.ndarray[Any, Any]] | None:
    owners = pq.read_table(path, columns=["prompt_id"]).column("prompt_id").to_pylist()
    rows = [row for row, owner in enumerate(owners) if owner in positions]
    if not rows:
        return None
    table = pq.read_table(path, columns=_COLUMNS).take(pa.array(rows))
    records = table.to_pylist()
    for record in records:
        record["prompt"] = positions[record["prompt_id"]]
    return _columns(records, rows, source, shard)


def _columns(
    records: Sequence[Mapping[str, Any]], rows: Sequence[int], source: int, shard: int
) -> dict[str, np.ndarray[Any, Any]]:
    def column(name: str, kind: Any) -> np.ndarray[Any, Any]:
        return np.array([record[name] for record in records], dtype=kind)

    count = len(records)
    return {
        "id": column("id", object),
        "prompt": column("prompt", np.int32),
        "index": column("index", np.int32),
        "finish": column("finish", object),
        "source": np.full(count, source, np.int16),
        "shard": np.full(count, shard, np.int32),
        "row": np.array(rows, np.int32),
        "tokens": np.array([-1 if r["tokens"] is None else r["tokens"] for r in records], np.int32),
        "whole": np.array([is_whole(r["finish"], r["text"]) for r in records], np.bool_),
        "digest": np.array([_text_digest(r["text"]) for r in records], "S16"),
    }


def _text_digest(text: str) -> bytes:
    return digest_bytes(text.encode("utf-8", "surrogatepass")).encode()


def _judgements(ids: pa.Array, folders: Sequence[Path]) -> Judgements:
    count = len(ids)
    status = np.full(count, -1, np.int8)
    value = np.full(count, np.nan)
    reason = np.zeros(count, np.int32)
    reasons: dict[str, int] = {}
    for folder in (folder for folder in folders if shards(folder)):
        names = ["response_id", "status", "value", "reason", "against"]
        table = pa.concat_tables([pq.read_table(shard, columns=names) for shard in shards(folder)])
        # A pairwise judgement is of two responses, not a score of one.
        table = table.filter(pc.is_null(table["against"])).combine_chunks()
        rows = pc.index_in(table["response_id"], value_set=ids)
        table = table.filter(pc.is_valid(rows))
        at = np.asarray(rows.drop_null().to_numpy(), dtype=np.int64)
        codes = [STATUSES.index(word) for word in table["status"].to_pylist()]
        status[at] = codes
        value[at] = table["value"].to_numpy()
        words = table["reason"].to_pylist()
        reason[at] = [reasons.setdefault(word, len(reasons)) for word in words]
    return Judgements(status, value, reason, tuple(reasons) or ("",))

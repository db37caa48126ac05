"""The tables that a build reads, without their texts: file by file, as Arrow columns.

The `index/` of a sample or annotate unit holds the columns that a build needs, in few large
files. Where it is missing or of other shards than those in `data/`, the same columns are
made from `data/`: of responses that costs reading and hashing every text.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fusechat.digests import digest
from fusechat.errors import DamagedError
from fusechat.groups import Array
from fusechat.records import is_whole
from fusechat.tables import read_columns, shards, write_tables

INDEX = "index"
INDEX_ROWS = 20_000
"""Rows of a file of an index."""
RESPONSES = pa.schema(
    [
        ("id", pa.string()),
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("finish", pa.string()),
        ("whole", pa.bool_()),
        ("digest", pa.binary(8)),
        ("tokens", pa.int32()),
        ("file", pa.int32()),
        ("row", pa.int32()),
    ]
)
"""Columns of a response without its text: `file` is the position of its shard among those of
`data/`, `row` its place there, `digest` the first bytes of that of its text (`text_digests`)."""
SCORES = pa.schema(
    [
        ("response_id", pa.string()),
        ("status", pa.string()),
        ("value", pa.float64()),
        ("reason", pa.string()),
    ]
)
"""Columns of a score that a build reads."""
_MARK = b"fusechat.index.2"


def responses(unit: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The responses of a sample unit without texts, in order; only `columns` where given."""
    names = list(columns or RESPONSES.names)
    for number, path in enumerate(_files(unit)):
        yield read_columns(path, names) if path.parent.name == INDEX else _slim(path, number, names)


def scores(unit: Path, columns: Sequence[str], first: int = 0) -> Iterator[pa.Table]:
    """The scores of single responses of an annotate unit, in order, from file `first` on.

    A pairwise judgement is of two responses, not a score of one: it is left out.
    """
    for path in _files(unit)[first:]:
        yield read_columns(path, columns) if path.parent.name == INDEX else _single(path, columns)


def write_index(unit: Path) -> None:
    """Write the `index/` of a finished unit of responses or of scores."""
    files = shards(unit / "data")
    of_scores = "response_id" in pq.read_schema(files[0]).names
    schema = SCORES if of_scores else RESPONSES
    tables = (
        _single(path, schema.names) if of_scores else _slim(path, number, schema.names)
        for number, path in enumerate(files)
    )
    mark = {_MARK: _shards_now(unit).encode()}
    write_tables(unit / INDEX, tables, schema.with_metadata(mark), INDEX_ROWS)


def is_indexed(unit: Path) -> bool:
    """Whether a unit has an index of the very shards that it holds."""
    found = shards(unit / INDEX)
    if not found:
        return False
    try:
        said = pq.read_schema(found[0]).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(found[0], str(error).rstrip(".")) from error
    return said.get(_MARK) == _shards_now(unit).encode()


def _files(unit: Path) -> list[Path]:
    return shards(unit / INDEX if is_indexed(unit) else unit / "data")


def _single(path: Path, columns: Sequence[str]) -> pa.Table:
    table = read_columns(path, [*columns, "against"])
    if table["against"].null_count < len(table):
        table = table.filter(pc.is_null(table["against"]))
    return table.select(list(columns))


def _shards_now(unit: Path) -> str:
    return digest([[path.name, path.stat().st_size] for path in shards(unit / "data")])


def _slim(path: Path, number: int, names: Sequence[str]) -> pa.Table:
    made = {"whole": "text", "digest": "text", "file": "id", "row": "id"}
    read = [*dict.fromkeys(made.get(name, name) for name in [*names, "finish"])]
    table = read_columns(path, read)
    columns = {name: table[name] for name in names if name in table.column_names}
    if "text" in read:
        texts = table["text"].combine_chunks()
        columns["digest"] = text_digests(texts)
        columns["whole"] = pa.array(_whole(table["finish"], texts))
    columns["file"] = pa.array(np.full(len(table), number, np.int32))
    columns["row"] = pa.array(np.arange(len(table), dtype=np.int32))
    schema = pa.schema([RESPONSES.field(name) for name in names])
    return pa.table({name: columns[name] for name in names}).cast(schema)


def text_digests(texts: pa.StringArray) -> pa.Array:
    """Digest of each text in UTF-8 as 8 bytes; in hex it is what `digests.digest_bytes` gives."""
    begins, data = _bytes_of(texts)
    ends = begins.tolist()
    found = [hashlib.sha256(data[a:b]).digest()[:8] for a, b in itertools.pairwise(ends)]
    packed = pa.py_buffer(b"".join(found))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(8), len(texts), [None, packed])


def _whole(finishes: pa.ChunkedArray, texts: pa.StringArray) -> Array:
    """`is_whole` of each, bool."""
    finish = finishes.combine_chunks().dictionary_encode()
    ended = np.array([is_whole(word, "x") for word in finish.dictionary.to_pylist()], np.bool_)
    begins, data = _bytes_of(texts)
    seen = np.diff(begins) > 0
    first = np.frombuffer(data, np.uint8)[begins[:-1][seen]]
    # A text that begins with a visible ASCII character need not be looked at to be seen not empty.
    doubtful = np.flatnonzero(seen)[(first <= 0x20) | (first >= 0x7F)]
    seen[doubtful] = [is_whole("stop", texts[row].as_py()) for row in doubtful]
    seen &= ended[finish.indices.to_numpy()]
    return seen


def _bytes_of(texts: pa.StringArray) -> tuple[Array, memoryview]:
    """Where each text begins, and the end of the last, in the bytes of all; and these."""
    _, offsets, data = texts.buffers()
    if not len(texts):
        return np.zeros(1, np.int32), memoryview(b"")
    begins = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return begins, memoryview(b"" if data is None else data)

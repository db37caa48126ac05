"""Tables written as columns: the very shards that the same rows give."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.errors import DamagedError
from fusechat.records import Dropped
from fusechat.tables import (
    TableWriter,
    arrow_schema,
    read_columns,
    shards,
    write_table,
    write_tables,
)

SCHEMA = arrow_schema(Dropped)


def rows(count: int) -> list[Dropped]:
    return [
        Dropped(prompt_id=str(n), origin="o", domain="d", stage="sft", reason="r" * (n % 3),
                details=None if n % 2 else "{}")
        for n in range(count)
    ]  # fmt: skip


def files(folder: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in shards(folder)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=6), st.integers(1, 7))
def test_columns_in_pieces_of_any_length_give_the_bytes_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], shard_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    all_ = rows(sum(lengths))
    whole = pa.Table.from_pylist([row.model_dump() for row in all_], schema=SCHEMA)
    # Other order of columns than the schema's, as a user of the writer may have them.
    mixed = whole.select(SCHEMA.names[::-1])
    begins = [sum(lengths[:n]) for n in range(len(lengths))]
    pieces = [mixed.slice(*piece) for piece in zip(begins, lengths, strict=True)]
    said = write_tables(folder / "columns", pieces, SCHEMA, shard_rows)
    assert said == write_table(folder / "rows", all_, Dropped, shard_rows)
    assert files(folder / "columns") == files(folder / "rows")


def test_shards_of_an_earlier_attempt_are_removed_before_the_first_row(tmp_path: Path) -> None:
    write_table(tmp_path, rows(9), Dropped, 2)
    writer = TableWriter(tmp_path, SCHEMA)
    assert shards(tmp_path) == []
    assert writer.close().rows == 0
    assert [path.name for path in shards(tmp_path)] == ["00000.parquet"]


def test_only_values_that_come_again_are_written_as_a_dictionary(tmp_path: Path) -> None:
    write_table(tmp_path, rows(200), Dropped)
    written = pq.ParquetFile(shards(tmp_path)[0]).metadata.row_group(0)
    columns = [written.column(number) for number in range(written.num_columns)]
    as_words = {one.path_in_schema for one in columns if "RLE_DICTIONARY" in one.encodings}
    assert as_words == {"origin", "domain", "stage", "reason", "details"}


def test_a_missing_value_of_a_column_that_needs_one_is_an_error(tmp_path: Path) -> None:
    columns = {name: pa.nulls(1, pa.string()) for name in SCHEMA.names}
    with pytest.raises((ValueError, pa.ArrowInvalid)):
        write_tables(tmp_path, [pa.table(columns)], SCHEMA)


def test_a_shard_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DamagedError, match=r"00000\.parquet is damaged"):
        read_columns(tmp_path / "00000.parquet", ["prompt_id"])

"""Exports of a build in the rows that the TRL trainers read, as Parquet and as JSON lines.

SFT: `prompt`, `completion`; DPO: `prompt`, `chosen`, `rejected` (lists of messages). So TRL trains
on the response alone, as we do, and on no earlier turn of the assistant (of one column `messages`
it would train on all tokens). The provenance columns follow; TRL ignores them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.cards.data_card import Part, data_card
from fusechat.cards.lineage import Lineage
from fusechat.errors import Fault, RecipeError
from fusechat.faultpoints import reach
from fusechat.files import sync_folder, write_atomic
from fusechat.records import Demonstration, Pair, Record
from fusechat.stages.build_rows import dpo_row_type
from fusechat.tables import arrow_schema, read_dicts, shards

ROWS_AT_ONCE = 1000
Row = Mapping[str, Any]
_WHAT = {"sft": "Responses to imitate, as SFTTrainer reads them.",
         "dpo": "Pairs of responses of one prompt, as DPOTrainer reads them."}  # fmt: skip
_COLUMNS = {
    "sft": {"prompt, completion": "lists of messages"},
    "dpo": {"prompt, chosen, rejected": "lists of messages"},
}
_FROM = {
    "prompt_id, response_id, chosen_id, rejected_id": "ids of the prompt and of the responses",
    "source, rejected_source": "whose response it is (the chosen one, the rejected one)",
    "origin, domain": "the prompt set, the domain",
    "score, chosen_score, rejected_score, margin": "by the annotator that ranked them",
    "reason, weight": "why it was chosen; its weight",
}
_HOW = """\
## How to use it

```python
from datasets import load_dataset

sft = load_dataset("THIS_FOLDER", "sft", split="train")  # SFTTrainer(train_dataset=sft, ...)
dpo = load_dataset("THIS_FOLDER", "dpo", split="train")  # DPOTrainer(train_dataset=dpo, ...)
```

The length-normalized DPO loss of FuseChat-3.0's Llama targets is `loss_type="sigmoid_norm"` there.
The same rows are beside it as JSON lines."""
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def export_trl(builds: Path | Sequence[Path], out_folder: Path) -> dict[str, int]:
    """Write `sft` and `dpo` as `.parquet` and `.jsonl` into `out_folder`; returns their row counts.

    `builds`: the folder of a run's build, or of both where it is in two. Each file is whole or
    not there; files of the same names are replaced. Row order is the builds'. Raises
    `RecipeError`, before anything is written, where the preference rows are triples.
    """
    folders = [builds] if isinstance(builds, Path) else [*builds]
    for folder in folders:
        if shards(folder / "dpo") and dpo_row_type(folder) is not Pair:
            message = "holds triples, for which TRL has no trainer. Only pairs can be exported."
            raise RecipeError([Fault("", str(folder / "dpo"), message)])
    out_folder.mkdir(parents=True, exist_ok=True)
    kinds = (("sft", Demonstration, demonstration_row), ("dpo", Pair, pair_row))
    return {
        table: _export([f / table for f in folders], out_folder / table, row_type, convert)
        for table, row_type, convert in kinds
    }


def write_trl_card(run: Lineage, out_folder: Path, counts: Mapping[str, int]) -> Path:
    """Write the data set card of an export into its folder; `counts`: its rows by table."""
    parts = [
        Part(table, f"{table}.parquet", counts[table], _WHAT[table], {**_COLUMNS[table], **_FROM})
        for table in ("sft", "dpo")
    ]
    path = out_folder / "README.md"
    card = data_card(run, "SFT and DPO sets for TRL", parts, _HOW)
    write_atomic(path, card.encode("utf-8", "replace"))
    return path


def demonstration_row(row: Row) -> dict[str, Any]:
    """A TRL conversational prompt-completion row: `prompt`, `completion`, then the provenance."""
    answer = {"role": "assistant", "content": row["response"]}
    return {"prompt": _turns(row), "completion": [answer], **_provenance(row, Demonstration)}


def pair_row(row: Row) -> dict[str, Any]:
    """A TRL conversational preference row: `prompt`, `chosen`, `rejected`, then the provenance."""
    return {
        "prompt": _turns(row),
        "chosen": [{"role": "assistant", "content": row["chosen"]}],
        "rejected": [{"role": "assistant", "content": row["rejected"]}],
        **_provenance(row, Pair),
    }


def export_schema(row_type: type[Record]) -> pa.Schema:
    """Columns of an export: the conversational ones, then the provenance with its types."""
    sides = ["completion"] if row_type is Demonstration else ["chosen", "rejected"]
    lists = ["prompt", *sides]
    fields = [pa.field(name, _MESSAGES) for name in lists]
    kept = [arrow_schema(row_type).field(name) for name in _provenance_names(row_type)]
    return pa.schema([*fields, *kept])


def _provenance_names(row_type: type[Record]) -> list[str]:
    texts = {"messages", "response", "chosen", "rejected"}
    return [name for name in row_type.model_fields if name not in texts]


def _provenance(row: Row, row_type: type[Record]) -> dict[str, Any]:
    return {name: row.get(name) for name in _provenance_names(row_type)}


def _turns(row: Row) -> list[dict[str, str]]:
    return [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"]]


def _export(
    tables: Sequence[Path],
    out: Path,
    row_type: type[Record],
    convert: Callable[[Row], dict[str, Any]],
) -> int:
    parquet, lines = out.with_suffix(".parquet"), out.with_suffix(".jsonl")
    begun = {path: path.with_name(f".{path.name}.tmp") for path in (parquet, lines)}
    schema = export_schema(row_type)
    rows = (convert(row) for table in tables for row in read_dicts(table))
    with (
        pq.ParquetWriter(begun[parquet], schema, compression="zstd") as writer,
        begun[lines].open("w", encoding="utf-8") as handle,
    ):
        count = sum(_write_chunk(chunk, writer, handle, schema) for chunk in _chunks(rows))
    for path, temporary in begun.items():
        _sync(temporary)
        temporary.replace(path)
        reach("export.renamed")
    sync_folder(out.parent)
    return count


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(rows, ROWS_AT_ONCE)):
        yield chunk


def _write_chunk(
    chunk: list[dict[str, Any]], writer: pq.ParquetWriter, handle: TextIO, schema: pa.Schema
) -> int:
    writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
    for row in chunk:
        handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    return len(chunk)


def _sync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())

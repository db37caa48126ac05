"""The full candidate pool: every prompt, response and score, and where each prompt went.

    responses/*.parquet   a row a response: prompt, source, text, how it was made, scores, use
    prompts/*.parquet     a row a prompt: where it went, or why it was dropped
    left_out/*.parquet    every row that any unit dropped, with its reason
    README.md             the data set card, written last

Read and written shard by shard; what joins them waits in a temporary file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.cards.data_card import Part, data_card
from fusechat.cards.lineage import Lineage
from fusechat.exports._lookup import Lookup, batched
from fusechat.files import write_atomic
from fusechat.records import SIDES, Dropped, Message, Prompt
from fusechat.stages.build_rows import BUILDS
from fusechat.tables import TableWriter, arrow_schema, read_dicts, shards

SHARD_ROWS = 10_000
_AT_ONCE = 500
_STRING, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_SCORE = pa.struct([("annotator", _STRING), ("status", _STRING), ("value", _FLOAT),
                    ("reason", _STRING), ("details", _STRING), ("against", _STRING)])  # fmt: skip
_MESSAGES = pa.list_(pa.struct(list(arrow_schema(Message))))
_SAMPLE = ("source", "model", "index", "seed", "text", "reasoning", "finish", "error", "tokens",
           "prompt_tokens", "logprob")  # fmt: skip
RESPONSES = pa.schema(
    [
        ("prompt_id", _STRING), ("messages", _MESSAGES), ("domain", _STRING), ("origin", _STRING),
        ("response_id", _STRING), ("source", _STRING), ("model", _STRING), ("index", _INT),
        ("seed", _INT), ("text", _STRING), ("reasoning", _STRING), ("finish", _STRING),
        ("error", _STRING), ("tokens", _INT), ("prompt_tokens", _INT), ("logprob", _FLOAT),
        ("scores", pa.list_(_SCORE)), ("place", _STRING), ("sft", _BOOL), ("chosen", _BOOL),
        ("rejected", _BOOL), ("contaminated", _STRING),
    ]
)  # fmt: skip
PROMPTS = pa.schema(
    [*arrow_schema(Prompt), pa.field("place", _STRING), pa.field("stage", _STRING),
     pa.field("reason", _STRING), pa.field("contaminated", _STRING)]
)  # fmt: skip
LEFT_OUT = pa.schema([pa.field("unit", _STRING), *arrow_schema(Dropped)])
_WHAT = {
    "responses": "Every response of every source.",
    "prompts": "Every prompt that was asked.",
    "left_out": "Every prompt or row that a unit left out, with the reason.",
}
_COLUMNS = {
    "responses": {
        "prompt_id, messages, domain, origin": "the prompt: its id, its conversation, its domain, "
        "the prompt set that it is of",
        "response_id, source, model": "the response's id, its source in the recipe, the model",
        "index, seed": "which sample of this source, from 0; the seed it was drawn with",
        "text, reasoning": "the answer; reasoning text, which is neither scored nor trained on",
        "finish, error": "`stop`, `length` (cut), `unknown` (stored so), or `error` and why",
        "tokens, prompt_tokens, logprob": "as the source counts; sum in nats, where it was said",
        "scores": "every judgement: annotator, status (`ok`, `unscorable`, `error`), value (only "
        "of `ok`), reason, details (JSON), against",
        "place": "where its prompt went: `sft`, `dpo`, `sft+dpo`, `dropped`, or empty: not built",
        "sft, chosen, rejected": "whether this response is in an SFT row, or in a pair",
        "contaminated": "benchmarks that it has words of, where they were looked for",
    },
    "prompts": {
        "id, messages, domain, origin, licence": "the prompt",
        "answer, tests, reference, choices, checker, turns": "what its answers are held against",
        "place, stage, reason": "where it went; of a dropped one at which stage and why",
        "contaminated": "benchmarks that it has words of, where they were looked for",
    },
    "left_out": {
        "unit": "the unit that left it out",
        "prompt_id, origin, domain, stage, reason, details": "what, where and why",
    },
}


def export_pool(run: Lineage, out: Path) -> dict[str, int]:
    """Write the pool of a run into the folder `out`; returns the rows of each table.

    Needs `prompts` and the finished sample units; scores, sets and the ledger are taken as far as
    they are done. Files of an earlier export are replaced.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "README.md").unlink(missing_ok=True)
    with Lookup(out / ".lookup.sqlite") as lookup:
        _fill(lookup, run)
        tables = {
            "responses": (RESPONSES, _responses(run, lookup)),
            "prompts": (PROMPTS, _prompts(run, lookup)),
            "left_out": (LEFT_OUT, _left_out(run)),
        }
        counts = {name: _write(out / name, *given) for name, given in tables.items()}
    parts = [
        Part(name, f"{name}/*.parquet", rows, _WHAT[name], _COLUMNS[name])
        for name, rows in counts.items()
    ]
    write_atomic(out / "README.md", data_card(run, "candidate pool", parts).encode())
    return counts


def _write(folder: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> int:
    writer = TableWriter(folder, schema, SHARD_ROWS)
    for some in batched(rows, _AT_ONCE):
        writer.add(pa.Table.from_pylist(some, schema=schema))
    return writer.close().rows


def _fill(lookup: Lookup, run: Lineage) -> None:
    prompts = run.folders["prompts"] / "prompts"
    kept = ("messages", "domain", "origin")
    asked = read_dicts(prompts, ["id", *kept])
    lookup.add("prompt", ((row["id"], {name: row[name] for name in kept}) for row in asked))
    for name in _done(run, "annotate/"):
        rows = read_dicts(run.folders[name] / "data")
        lookup.add("score", ((row["response_id"], _score(row)) for row in rows))
    for build in (run.folders[name] for name in BUILDS if name in run.manifests):
        _add_uses(lookup, build)
    if "decontaminate" in run.manifests:
        rows = read_dicts(run.folders["decontaminate"] / "removed")
        said = ((row["response_id"] or row["prompt_id"], row["benchmark"]) for row in rows)
        lookup.add("contaminated", said)
    lookup.ready()


def _add_uses(lookup: Lookup, build: Path) -> None:
    """What a build made of which responses, and where its prompts went."""
    for row_kind in ("sft", "dpo"):
        paths = shards(build / row_kind)
        names = pq.read_schema(paths[0]).names if paths else []
        for side in (side for sides in SIDES.values() for side in sides):
            if (key := f"{side}_id") in names:
                use = "sft" if side == "response" else side
                rows = read_dicts(build / row_kind, [key])
                lookup.add("use", ((row[key], use) for row in rows))
                names.remove(key)
        rows = read_dicts(build / row_kind, ["prompt_id"]) if paths else iter(())
        lookup.add("place", ((row["prompt_id"], [row_kind, None, None]) for row in rows))
    rows = read_dicts(build / "dropped", ["prompt_id", "stage", "reason"])
    said = ((r["prompt_id"], ["dropped", r["stage"], r["reason"]]) for r in rows)
    lookup.add("place", said)


def _score(row: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: row.get(field.name) for field in _SCORE}


def _done(run: Lineage, stage: str) -> list[str]:
    return [name for name in run.folders if name.startswith(stage) and name in run.manifests]


def _responses(run: Lineage, lookup: Lookup) -> Iterator[dict[str, Any]]:
    for name in _done(run, "sample/"):
        for some in batched(read_dicts(run.folders[name] / "data"), _AT_ONCE):
            ids = [row["id"] for row in some]
            prompt_ids = [row["prompt_id"] for row in some]
            prompts, places = lookup.of("prompt", prompt_ids), lookup.of("place", prompt_ids)
            scores, uses = lookup.of("score", ids), lookup.of("use", ids)
            found = lookup.of("contaminated", ids)
            for row in some:
                use = uses[row["id"]]
                yield {
                    "prompt_id": row["prompt_id"],
                    **(prompts[row["prompt_id"]] or [{}])[0],
                    "response_id": row["id"],
                    **{name: row.get(name) for name in _SAMPLE},
                    "scores": scores[row["id"]],
                    "place": _place(places[row["prompt_id"]])[0],
                    **{what: what in use for what in ("sft", "chosen", "rejected")},
                    "contaminated": _joined(found[row["id"]]),
                }


def _prompts(run: Lineage, lookup: Lookup) -> Iterator[dict[str, Any]]:
    for some in batched(read_dicts(run.folders["prompts"] / "prompts"), _AT_ONCE):
        ids = [row["id"] for row in some]
        places, found = lookup.of("place", ids), lookup.of("contaminated", ids)
        for row in some:
            place, stage, reason = _place(places[row["id"]])
            where = {"place": place, "stage": stage, "reason": reason}
            yield {**row, **where, "contaminated": _joined(found[row["id"]])}


def _place(said: list[list[Any]]) -> tuple[str | None, str | None, str | None]:
    """Where a prompt went: in a table once, though several of its rows may be there."""
    if not said:
        return None, None, None
    names = "+".join(dict.fromkeys(one[0] for one in said))
    return names, said[-1][1], said[-1][2]


def _joined(names: list[str]) -> str | None:
    return ", ".join(dict.fromkeys(names)) or None


def _left_out(run: Lineage) -> Iterator[dict[str, Any]]:
    for name in run.folders:
        folder = run.folders[name] / "dropped"
        if name in run.manifests and not name.startswith("evaluate/") and shards(folder):
            for row in read_dicts(folder):
                yield {"unit": name, **row}

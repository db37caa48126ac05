"""Exports: TRL and `datasets` read them, and nothing of the build is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fusechat.exports import export_trl
from fusechat.records import Demonstration, Message, Pair
from fusechat.tables import write_table

TURNS = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Hi"),
    Message(role="assistant", content="Hello."),
    Message(role="user", content="1+1?\n“?”"),
)


def demonstration(number: int) -> Demonstration:
    return Demonstration(
        prompt_id=f"p{number}", messages=TURNS, response=f"2 – {number}", response_id=f"r{number}",
        source="qwen", origin="set", domain="math", score=None, reason="first",
    )  # fmt: skip


def pair(number: int) -> Pair:
    return Pair(
        prompt_id=f"p{number}",
        messages=TURNS[3:],
        chosen="2",
        rejected="3",
        chosen_id=f"c{number}",
        rejected_id=f"d{number}",
        source="gemma",
        origin="set",
        domain="math",
        chosen_score=0.15,
        rejected_score=0.1,
        margin=0.05,
        reason="source ranked 1",
    )


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    write_table(tmp_path / "build/sft", [demonstration(n) for n in range(5)], Demonstration, 2)
    write_table(tmp_path / "build/dpo", [pair(n) for n in range(3)], Pair, 2)
    assert export_trl(tmp_path / "build", tmp_path / "out") == {"sft": 5, "dpo": 3}
    return tmp_path / "out"


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_parquet_and_json_lines_hold_the_same_rows(exported: Path) -> None:
    assert sorted(p.name for p in exported.iterdir()) == [
        "dpo.jsonl", "dpo.parquet", "sft.jsonl", "sft.parquet",
    ]  # fmt: skip
    for table in ("sft", "dpo"):
        assert rows_of(exported / f"{table}.parquet") == rows_of(exported / f"{table}.jsonl")


def test_an_sft_row_is_the_conversation_and_where_it_comes_from(exported: Path) -> None:
    assert rows_of(exported / "sft.jsonl")[1] == {
        "prompt": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "1+1?\n“?”"},
        ],
        "completion": [{"role": "assistant", "content": "2 – 1"}],
        "prompt_id": "p1", "response_id": "r1", "source": "qwen", "origin": "set",
        "domain": "math", "score": None, "reason": "first", "weight": 1.0,
    }  # fmt: skip


def test_a_dpo_row_is_prompt_chosen_rejected_and_where_they_come_from(exported: Path) -> None:
    assert rows_of(exported / "dpo.parquet")[2] == {
        "prompt": [{"role": "user", "content": "1+1?\n“?”"}],
        "chosen": [{"role": "assistant", "content": "2"}],
        "rejected": [{"role": "assistant", "content": "3"}],
        "prompt_id": "p2", "chosen_id": "c2", "rejected_id": "d2", "source": "gemma",
        "origin": "set", "domain": "math", "chosen_score": 0.15, "rejected_score": 0.1,
        "margin": 0.05, "reason": "source ranked 1", "weight": 1.0,
        "rejected_source": None,
    }  # fmt: skip


def test_an_empty_table_still_exports_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "build/sft", [], Demonstration)
    write_table(tmp_path / "build/dpo", [], Pair)
    assert export_trl(tmp_path / "build", tmp_path / "out") == {"sft": 0, "dpo": 0}
    table = pq.read_table(tmp_path / "out/dpo.parquet")
    assert table.num_rows == 0
    assert table.column_names[:3] == ["prompt", "chosen", "rejected"]
    assert (tmp_path / "out/sft.jsonl").read_text() == ""


def test_exporting_again_replaces_the_files(exported: Path) -> None:
    before = {p.name: p.read_bytes() for p in exported.iterdir()}
    export_trl(exported.parent / "build", exported)
    assert {p.name: p.read_bytes() for p in exported.iterdir()} == before


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_datasets_loads_it_and_trl_calls_every_row_conversational(
    exported: Path, tmp_path: Path, kind: str
) -> None:
    datasets = pytest.importorskip("datasets")
    data_utils = pytest.importorskip("trl.data_utils")
    suffix = "parquet" if kind == "parquet" else "jsonl"
    for table, count in (("sft", 5), ("dpo", 3)):
        files = str(exported / f"{table}.{suffix}")
        loaded = datasets.load_dataset(
            kind, data_files=files, split="train", cache_dir=str(tmp_path / "cache")
        )
        assert len(loaded) == count
        assert all(data_utils.is_conversational(row) for row in loaded)

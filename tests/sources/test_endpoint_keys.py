"""The key of a server: sent, in nothing that is kept, and missed or refused with a clear word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.sources.asking import ask, part_of, rows_of

from endpoint_stub import Body, Stub, answer, serving
from fusechat.errors import PartError, RecipeError, SourceError
from fusechat.parts import Where
from fusechat.recipe import load_recipe
from fusechat.records import Response


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STUB_KEY", "sk-very/secret-123")
    return "sk-very/secret-123"


def test_the_key_is_sent_and_in_no_row_or_note_even_where_the_server_echoes_it(secret: str) -> None:
    def script(number: int, body: Body) -> Body | None:
        if number == 1:
            return {"text": f"Your key is {secret}. " * 3, "fields": {"system_fingerprint": secret}}
        if number == 2:  # a slash may stand in JSON as it is or escaped
            act = {"text": f"It is {secret}.", "fields": {"system_fingerprint": secret}}
            return {"raw": json.dumps(answer(body, act)).replace("/", "\\/")}
        raw = json.dumps({"error": {"message": f"key {secret} is over its quota"}})
        return {"status": 400, "raw": raw}

    stub = Stub(script, key=secret)
    with serving(stub) as (url,):
        part = part_of(url, api_key_env="STUB_KEY", concurrency=1)
        with part.open(Where()) as work:
            out = list(work(iter(rows_of(part, 3, range(1)))))
            notes = work.notes  # type: ignore[attr-defined]
    assert [row.text for row in out][:2] == [("Your key is ***. " * 3).strip(), "It is ***."]
    kept = json.dumps([r.model_dump() for r in out]) + json.dumps(notes) + part.model_dump_json()
    assert secret not in kept
    assert "key *** is over its quota" in kept


def test_a_wrong_key_ends_before_the_first_row_and_names_the_variable(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = Stub(key="another")
    with serving(stub) as (url,):
        part = part_of(url, api_key_env="STUB_KEY")
        with pytest.raises(PartError, match="mend the variable STUB_KEY") as told:
            ask(part, rows_of(part, 1, range(1)))
    assert secret not in str(told.value)
    assert not stub.seen
    monkeypatch.delenv("STUB_KEY")
    (said,) = part.place_faults(Where())
    assert "the variable STUB_KEY is not set" in said
    monkeypatch.setenv("OTHER_KEY", "k")
    assert list(part.place_faults(Where(api_key_env="OTHER_KEY"))) == []  # the cluster file's wins


def test_a_key_that_is_withdrawn_in_mid_run_stops_the_source_after_the_rows_before() -> None:
    stub = Stub(lambda number, body: {"status": 401} if number > 2 else None)
    got: list[Response] = []
    with serving(stub) as (url,):
        part = part_of(url, concurrency=1)
        with (
            part.open(Where()) as work,
            pytest.raises(SourceError, match=r"refuses the key \(401\)"),
        ):
            got.extend(work(iter(rows_of(part, 4, range(1)))))
    assert {row.finish for row in got} <= {"stop"}


def test_more_samples_than_listed_seeds_are_a_fault_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "hi"}\n')
    (tmp_path / "r.yaml").write_text(
        "name: seeds\nprompts: {p: {use: files, path: p.jsonl, domain: chat}}\n"
        "sources: {s: {use: endpoint, model: m, seeds: [13, 21], samples: {chat: 3}}}\n"
    )
    with pytest.raises(RecipeError, match="3 samples need 3 seeds; 2 are listed"):
        load_recipe(tmp_path / "r.yaml")
    assert load_recipe(tmp_path / "r.yaml", set={"sources.s.samples": 2})

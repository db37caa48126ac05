"""`fusechat batch`: out, a provider, in; the table is the one that the server would have given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.serving.served import Client, SayingEngine, running

from fusechat.cli import main
from fusechat.records import Response
from fusechat.serving.faults import Faults
from fusechat.tables import read_table

RECIPE = """
name: batched
seed: 7
prompts:
  hello: {{use: files, path: prompts.jsonl, domain: chat}}
sources:
  said: {{use: endpoint, model: saying, base_urls: ["http://127.0.0.1:{port}/v1"],
         samples_per_request: 1, samples: 3, max_new_tokens: 50}}
  parrot: {{use: echo, samples: 2}}
"""


@pytest.fixture
def server() -> Iterator[Client]:
    with running(SayingEngine(), Faults()) as client:
        yield client


@pytest.fixture
def recipe(tmp_path: Path, server: Client) -> Path:
    prompts = [{"prompt": f"question number {number}"} for number in range(10)]
    lines = "".join(json.dumps(row) + "\n" for row in prompts)
    (tmp_path / "prompts.jsonl").write_text(lines, encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(port=server.port), encoding="utf-8")
    return path


class Workplace:
    """One workspace, and the commands on it."""

    def __init__(self, recipe: Path, folder: Path) -> None:
        self.recipe, self.folder = str(recipe), folder

    def run(self, *words: str) -> int:
        return main(["run", self.recipe, "--workspace", str(self.folder), "--quiet", *words])

    def batch(self, *words: object) -> int:
        call = ["batch", self.recipe, "--workspace", str(self.folder), "--unit", "sample/said"]
        return main([*call, *map(str, words)])

    def rows(self) -> list[str]:
        (unit,) = self.folder.glob("sample/said-*")
        return [row.model_dump_json() for row in read_table(unit / "data", Response)]


@pytest.fixture
def place(recipe: Path, tmp_path: Path) -> Workplace:
    made = Workplace(recipe, tmp_path / "ws")
    assert made.run("--only", "prompts") == 0
    return made


def answers(server: Client, folder: Path) -> list[dict[str, Any]]:
    """What a provider gives back, in an order of its own."""
    lines = [
        json.loads(line)
        for file in sorted(folder.glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return [result(server, line) for line in reversed(lines)]


def result(server: Client, line: Mapping[str, Any]) -> dict[str, Any]:
    said = server.post(json.dumps(line["body"]).encode())
    response = {"status_code": said.status, "request_id": "r", "body": said.json()}
    return {"id": "b", "custom_id": line["custom_id"], "response": response, "error": None}


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_table_is_the_one_that_the_server_would_have_given(
    recipe: Path, place: Workplace, server: Client, tmp_path: Path
) -> None:
    assert place.batch("--out", tmp_path / "out", "--rows", 12) == 0
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert server.counts()["requests"] == 0
    back = written(tmp_path / "back.jsonl", answers(server, tmp_path / "out"))
    asked = server.counts()["requests"]
    assert asked == 30
    assert place.batch("--read", back) == 0
    assert place.run() == 0
    assert server.counts()["requests"] == asked, "the run asks for nothing that was read"

    direct = Workplace(recipe, tmp_path / "direct")
    assert direct.run() == 0
    assert server.counts()["rows"] == 30
    assert place.rows() == direct.rows()
    assert len(place.rows()) == 30


def test_with_half_the_lines_missing_a_second_out_asks_for_the_rest_and_a_run_can_end_it(
    place: Workplace, server: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.batch("--out", tmp_path / "out")
    lines = answers(server, tmp_path / "out")
    half = written(tmp_path / "half.jsonl", lines[:15])
    for _ in range(2):
        assert place.batch("--read", half) == 0
        said = capsys.readouterr().out
        assert "sample/said: 15 of 30 rows are still open" in said
    assert "15 known before" in said
    place.batch("--out", tmp_path / "rest")
    rest = {line["custom_id"] for line in answers(server, tmp_path / "rest")}
    assert rest == {line["custom_id"] for line in lines[15:]}
    before = server.counts()["requests"]
    assert place.run() == 0
    assert server.counts()["requests"] == before + 15
    assert len(set(place.rows())) == 30
    assert place.batch("--out", tmp_path / "none") == 0
    assert "is done" in capsys.readouterr().out


def test_answers_of_another_model_are_left_open(
    place: Workplace, server: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.batch("--out", tmp_path / "out")
    lines = answers(server, tmp_path / "out")
    for line in lines:
        line["response"]["body"]["model"] = "another"
    assert place.batch("--read", written(tmp_path / "back", lines)) == 0
    said = capsys.readouterr().out
    assert "30 left open" in said
    assert "30 x the server answered as 'another'" in said


def test_a_unit_that_is_no_endpoint_is_refused_with_those_that_are(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["batch", place.recipe, "--workspace", str(place.folder), "--out", str(tmp_path / "x")]
    for unit in ("sample/parrot", "sample/none", "prompts"):
        assert main([*call, "--unit", unit]) == 1
        assert "There are: sample/said" in capsys.readouterr().err


def test_without_prompts_the_command_that_makes_them_is_said(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = Workplace(recipe, tmp_path / "empty")
    assert empty.batch("--out", tmp_path / "out") == 1
    assert "fusechat run" in capsys.readouterr().err

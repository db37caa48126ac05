"""The report's section on the benchmarks, of a whole run without any model."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import fusechat
from benchmark_made import Talk, base_and_fused, entry, sums
from benchmark_parts import ATTACK, HIDDEN
from browser_page import chromium, open_everything
from fusechat.files import read_json, write_json
from fusechat.metrics.published import ROWS
from fusechat.report import benchmarks_view
from fusechat.report.benchmarks_found import Benchmarks
from fusechat.report.collect import Findings, collect
from fusechat.report.render import render
from fusechat.results import RunResult
from fusechat.stages.benchmark_rows import Served, benchmark_rows


def speaker(text: str) -> dict[str, Any]:
    return {"use": "benchmark_parts:Voice", "model": text}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("bench")
    evaluate = {
        "models": {"base": speaker("a a"), "fused": speaker(f"a a a {ATTACK} {'b ' * 2000}")},
        "judge": {"use": "judged_parts:Referee"},
        "benchmarks": [
            {"use": "benchmark_parts:Lengths", "name": "gsm8k"},
            {"use": "benchmark_parts:Hidden", "name": "gpqa_diamond"},
            {"use": "judged_parts:Talk", "name": "talk"},
            {"use": "judged_parts:Away", "name": "away"},
        ],
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "bench", "evaluate": evaluate}))
    return fusechat.run(fusechat.load_recipe(path), folder / "workspace")


@pytest.fixture(scope="module")
def findings(ran: RunResult) -> Findings:
    return collect(ran.folder, ran.plan.workspace)


@pytest.fixture(scope="module")
def page(findings: Findings) -> str:
    return render(findings)


def text_of(page: str) -> str:
    """What is written between the tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture(scope="module")
def told(findings: Findings) -> Benchmarks:
    assert findings.benchmarks is not None
    return findings.benchmarks


def test_a_run_that_only_evaluates_is_about_its_models(page: str) -> None:
    text = text_of(page)
    assert "base and fused on published benchmarks" in text
    assert "The benchmarks of FuseChat-3.0" in text
    for absent in ("Ten pairs", "From prompts to training rows", "Whose responses", "No source"):
        assert absent not in text


def test_every_row_of_the_paper_has_a_line_with_its_status(page: str, told: Benchmarks) -> None:
    lines = benchmarks_view.lines(told.table)
    assert [line.title for line in lines[:14]] == list(ROWS)
    assert lines[14].average
    assert [line.title for line in lines[15:]] == ["Talk", "Away"]
    assert {line.status for line in lines if line.title == "HumanEval"} == {"skipped"}
    assert "away.jsonl is not anywhere" in text_of(page)


def test_wins_are_shown_with_prompt_both_answers_and_the_judges_words(told: Benchmarks) -> None:
    talk = [one for one in told.examples if one.task == "talk"]
    assert len(talk) == 2
    assert all(one.won for one in talk)
    fused, base = talk[0].sides
    assert (fused.model, base.model) == ("fused", "base")
    assert fused.value > base.value
    assert base.text.startswith("a a T=")
    assert fused.text.startswith("a a a <script>")
    assert len(base.words) == 2
    assert base.words[0].startswith("I think [[")
    sums = [one for one in told.examples if one.task == "gsm8k"]
    assert sums
    assert sums[0].item.startswith("test/")
    assert sums[0].turns[0][1].startswith("Say ")


def test_a_second_turn_is_shown_with_what_was_asked_before(ran: RunResult, tmp_path: Path) -> None:
    table = read_json(ran["evaluate/compare"].folder / "benchmarks.json")
    row = next(row for row in table["rows"] if row["name"] == "talk")
    prompts = ran["evaluate/talk/prompts"].rows("prompts")
    (third,) = (prompt for prompt in prompts if prompt.item == "3")
    win = {"item": f"{third.id}#2", "value": 0.9, "against": 0.2}
    row["examples"] |= {"wins": [win], "losses": []}
    found = collect(ran.folder, ran.plan.workspace)
    place = tmp_path / "compare"
    write_json(place / "benchmarks.json", table)
    units = [unit for unit in found.units if unit.name != "evaluate/compare"]
    compare = next(unit for unit in found.units if unit.name == "evaluate/compare")
    moved = type(compare)(compare.name, place, compare.key, compare.manifest)
    from fusechat.report.benchmarks_found import benchmarks

    told = benchmarks([*units, moved], moved, ran.folder)
    assert told is not None
    (one,) = (example for example in told.examples if example.task == "talk")
    assert [text for _, text in one.turns] == ["Third?", "And then?"]
    assert one.sides[1].text == "a a T=0.7 n=3 i=0"
    assert one.sides[1].words


def test_texts_of_a_private_benchmark_are_nowhere_on_the_page(page: str, told: Benchmarks) -> None:
    assert HIDDEN not in text_of(page)
    assert "hidden/" not in text_of(page)
    assert not [one for one in told.examples if one.task == "gpqa_diamond"]
    row = next(row for row in told.table["rows"] if row["name"] == "gpqa_diamond")
    assert row["status"] == "ok"
    assert row["examples"]["wins"]
    assert "Items of GPQA-Diamond are not shown" in text_of(page)


def test_hostile_texts_are_escaped_and_long_ones_clipped(page: str) -> None:
    assert ATTACK not in page
    assert ATTACK in text_of(page)
    assert "&lt;script&gt;" in page
    assert "more characters" in text_of(page)


def test_costs_are_of_the_units_and_money_needs_prices(ran: RunResult, told: Benchmarks) -> None:
    assert told.costs["talk"]["base"]["judge_tokens"] == 0
    assert told.costs["talk"]["base"]["cost"] is None
    rows = dict(benchmarks_view.costs(told))
    assert set(rows) == {"GSM8K", "GPQA-Diamond", "Talk", "Talk: judge"}


def test_a_table_of_another_format_is_left_out(findings: Findings, tmp_path: Path) -> None:
    from fusechat.report.benchmarks_found import benchmarks

    compare = next(unit for unit in findings.units if unit.name == "evaluate/compare")
    write_json(tmp_path / "benchmarks.json", {"format": 99})
    moved = type(compare)(compare.name, tmp_path, compare.key, compare.manifest)
    assert benchmarks(findings.units, moved, tmp_path) is None
    assert benchmarks(findings.units, None, tmp_path) is None


def test_the_verdict_is_that_of_the_average_and_says_over_how_many_rows(told: Benchmarks) -> None:
    found = benchmarks_view.verdict(told.table)
    assert "fused against base" in found.text
    assert "over 2 of 14 rows" in found.text
    none: dict[str, Any] = {**told.table, "average": {"rows": 0, "of": 14, "differences": []}}
    assert benchmarks_view.verdict(none).text == "None of the 14 rows is ok; each says why."


def test_published_columns_profiles_and_what_is_unlike_stand_in_the_cells(tmp_path: Path) -> None:
    half, more = [1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]
    paper = base_and_fused(half, more)
    results = paper | {"robust": base_and_fused(half, half)["paper"]}
    entries = [entry(sums(tmp_path), results), entry(Talk(), paper, judge="mine")]
    served = Served({"target": ["Llama-3.1-8B-Instruct"]}, {})
    table = benchmark_rows(entries, served=served)
    assert benchmarks_view.columns(table) == ["target", "train.dpo", "paper:tulu3_8b"]
    lines = {line.title: line for line in benchmarks_view.lines(table)}
    base, fused, tulu = lines["GSM8K"].cells
    assert (base.value, base.beside) == ("50.0", "paper 85.9 (−35.9)")
    assert (fused.value, fused.other, fused.fused) == ("75.0", "robust 50.0 (−25.0)", True)
    assert tulu.value == "88.6"
    assert (lines["GSM8K"].note, lines["MT-Bench"].note) == ("", "≠ not comparable")
    assert lines["MATH"].cells[0].beside == "paper 50.7"
    average = next(line for line in lines.values() if line.average)
    assert average.title == "average of 2 of 14 rows"
    # (5 + 50) / 2 = 27.5 against (8.4 + 85.9) / 2 = 47.15.
    assert average.cells[0].beside.startswith("paper 47.")
    page = text_of(render(Findings("made", "", "", {}, {}, (), benchmarks=Benchmarks(table))))
    assert "Tulu 3 (paper)" in page
    assert "judged by mine; the paper's judge is gpt-4" in page.lower()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_says_nothing_in_a_browser(
    browser: Any, ran: RunResult, width: int
) -> None:
    found = open_everything(browser, ran.report, width)
    assert (found["said"], found["asked"]) == ([], [ran.report.as_uri()])
    assert found["width"] <= width

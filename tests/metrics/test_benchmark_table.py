"""The benchmarks' table as text and as a page: every row in any width, and what must be known."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark_made import Rules, Secret, Talk, answered, entry
from fusechat.metrics.benchmark_markdown import as_markdown, cost_of, flat, runs_of
from fusechat.metrics.benchmark_table import format_benchmarks, gap, number, status_of
from fusechat.metrics.published import ROWS
from fusechat.metrics.text import _columns
from fusechat.stages.benchmark_rows import Served, benchmark_rows

HALF, MORE = [1.0, 0.0, 1.0, 0.0] * 10, [1.0, 0.0, 1.0, 1.0] * 10


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    three = {
        "target": answered(HALF), "train.sft": answered(HALF),
        "train.dpo": answered(MORE, parse_failed=2),
    }  # fmt: skip
    robust = {model: answered(HALF) for model in three}
    rated = {
        "target": answered([0.8, 0.6]), "train.sft": answered([0.8, None], judge_failed=1),
        "train.dpo": answered([0.9, 0.9]),
    }  # fmt: skip
    entries = [
        entry(Secret(), {"paper": three, "robust": robust}, notes=("a note | of it",)),
        entry(Talk(), {"paper": rated}, judge="mine"),
        entry(Rules(), {"paper": three}),
    ]
    served = Served({"target": ["Llama-3.1-8B-Instruct"]}, {})
    table = benchmark_rows(entries, served=served)
    return dict(json.loads(json.dumps(table, allow_nan=False)))


def test_the_wide_table_has_ours_theirs_the_difference_and_the_other_profile(
    found: dict[str, Any],
) -> None:
    lines = format_benchmarks(found, 200).splitlines()
    head, rule = lines[0], lines[1]
    assert head.split() == [
        "paper", "profile", "n", "base", "SFT", "fused", "fused", "−", "base", "paper", "base",
        "paper", "SFT", "paper", "fused", "paper", "Tulu", "3", "status",
    ]  # fmt: skip
    assert set(rule) == {"─"}
    (gpqa,) = (line for line in lines if line.startswith("GPQA-Diamond  "))
    assert "50.0 [" in gpqa
    assert "▲ +25.0 [" in gpqa
    assert gpqa.split()[-5:] == ["33.8", "37.9", "34.9", "35.9", "ok"]
    below = lines[lines.index(gpqa) + 1]
    assert below.startswith("  robust")
    assert "50.0 (0.0)" in below
    assert "50.0 (−25.0)" in below
    (rated,) = (line for line in lines if line.startswith("MT-Bench  "))
    assert "7.00 [" in rated
    assert "1/2" in rated
    assert rated.endswith("partial ≠")


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 200])
def test_every_row_is_there_in_any_width(found: dict[str, Any], width: int) -> None:
    lines = format_benchmarks(found, width).splitlines()
    for title in (*ROWS, "IFEval", "average (1/14)"):
        assert any(line.startswith(title) for line in lines), title
    if width >= 80:
        assert max(map(_columns, lines)) <= width


def test_the_average_and_the_other_rows_stand_below_the_papers(found: dict[str, Any]) -> None:
    lines = format_benchmarks(found, 200).splitlines()
    places = [next(i for i, line in enumerate(lines) if line.startswith(start))
              for start in (ROWS[-1], "average", "IFEval")]  # fmt: skip
    assert places == sorted(places)


def test_what_must_be_known_of_rows_is_said_below(found: dict[str, Any]) -> None:
    text = " ".join(format_benchmarks(found, 90).split())
    assert "Average over 1 of 14 rows: GPQA-Diamond." in text
    assert "MT-Bench: Partial: SFT: 1 of 2 items have no verdict" in text
    assert "Not comparable with the paper: judged by mine; the paper's judge is gpt-4" in text
    assert "GPQA-Diamond: No answer could be read in 2 (fused). a note | of it." in text
    assert "Not asked for: AlpacaEval-2, Arena-Hard, AlignBench v1.1, GSM8K" in text


def test_a_table_of_nothing_says_so() -> None:
    text = format_benchmarks(benchmark_rows([]), 80)
    assert "No average: none of the 14 rows is ok." in text
    assert text.count("skipped") == 14


def test_the_page_has_all_parts_and_tables_that_are_tables(found: dict[str, Any]) -> None:
    costs = {"secret": {"target": {
        "seconds": 3600.0, "tokens_per_second": 812.4, "cost": 1.5, "judge_seconds": 9.0,
        "judge_tokens_per_second": None, "judge_cost": None,
    }}}  # fmt: skip
    page = as_markdown(found, "mine", costs)
    assert page.startswith("# mine: the benchmarks of FuseChat-3.0\n")
    for heading in ("Differences, paired", "The other grading", "Mean length", "What sampling took",
                    "Of single rows", "What the rows were made from"):  # fmt: skip
        assert f"**{heading}" in page, heading
    assert "| GPQA-Diamond | 3,600 s, 812 tok/s, 1.50 | – | – |" in page
    assert "| GPQA-Diamond: judge | 9.0 s | – | – |" in page
    assert "| **Average (1/14)** |  | 50.0 [" in page
    assert "(10 / 30 / 0)" in page, "won, equal and lost items"
    blocks = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block}) == 1, block[0]


def test_repeated_runs_are_told_by_their_reach_and_deviation() -> None:
    # Mean 12, squares 4 + 0 + 4, over 2: sd 2.
    assert runs_of([10.0, 12.0, 14.0], 100.0) == "3: 10.0 to 14.0, sd 2.00"
    assert runs_of([12.0], 100.0) == runs_of([], 100.0) == "–"


def test_numbers_are_signed_and_rounded_as_the_table_says() -> None:
    assert [number(v, s) for v, s in ((12.345, 100.0), (8.456, 10.0), (None, 10.0))] == [
        "12.3", "8.46", "–",
    ]  # fmt: skip
    assert [gap(v) for v in (1.0, -1.0, 0.04, -0.04, None)] == ["+1.0", "−1.0", "0.0", "0.0", "–"]
    assert gap(-0.004, 10.0) == "0.00"
    assert cost_of(None) == "–"
    told = dict(flat({"a_b": {"c": 1}, "d": [1.5, 2.5], "e": None, "f": ["x"]}))
    assert told == {"a b, c": 1, "d": "1.50 to 2.50", "e": None}


@settings(max_examples=60, deadline=None)
@given(
    status=st.sampled_from(["ok", "partial", "skipped"]),
    comparable=st.booleans(),
    published=st.sampled_from([None, {"base": 1.0}]),
)
def test_unlike_is_only_marked_where_there_is_something_to_compare(
    status: str, comparable: bool, published: dict[str, float] | None
) -> None:
    row = {"status": status, "comparable": comparable, "published": published, "sampled": False}
    marked = status_of(row).endswith("≠")
    assert marked == (status != "skipped" and published is not None and not comparable)

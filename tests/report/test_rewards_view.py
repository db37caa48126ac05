from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.report.analysed import changed

from fusechat.report import rewards_view as view
from fusechat.report.collect import Findings, collect
from fusechat.report.figures import ALL, share

Analysis = Mapping[str, Any]


@pytest.fixture(scope="module")
def findings(whole: tuple[Path, Path]) -> Findings:
    return collect(*whole)


def test_right_against_wrong_has_the_auc_of_each_source(
    analysis: Analysis, findings: Findings
) -> None:
    figures = view.knowing(findings)
    assert [f.title for f in figures] == ["math: reward against math", "code: reward against code"]
    (judge,) = analysis["domains"]["math"]["judges"]
    rows = {row.label: row for row in figures[0].rows}
    assert list(rows) == [ALL, "gemma", "mistral", "qwen", "llama"]
    for source, entry in [(ALL, judge["all"]), *judge["sources"].items()]:
        assert rows[source].first == f"{entry['auc']:.2f}"
        assert rows[source].second == f"{entry['same_prompt']['share']:.2f}"
        assert f'aria-label="{source}: right median' in rows[source].picture


def test_a_side_without_values_has_no_box_and_no_auc(findings: Findings) -> None:
    none = {"n": 0, "mean": None, "quantiles": {}}
    same = {"pairs": 0, "higher": 0, "ties": 0, "share": None}
    entry = {"right": none, "wrong": none, "auc": None, "sampled": False, "same_prompt": same}
    judge = {"score": "reward", "verdict": "math", "all": entry, "sources": {"gemma": entry}}
    figure = view.knowing(changed(findings, "math", "judges", [judge]))[0]
    (row,) = figure.rows
    assert (row.first, row.second) == ("–", "–")
    assert "no values" in row.picture


def test_length_parity_says_the_mean_difference_and_how_often_chosen_is_longer(
    analysis: Analysis, findings: Findings
) -> None:
    figure = view.parity(findings)[0]
    given = analysis["domains"]["math"]["parity"]
    for row in figure.rows:
        entry = given["all"] if row.label == ALL else given["sources"][row.label]
        assert float(row.first.replace("−", "-")) == pytest.approx(entry["mean"], rel=0.01)
        assert row.second == share(entry["longer"], 1)
    assert "62 tokens on average, rejected ones 55.5" in figure.how


def test_a_source_with_few_pairs_is_named_with_their_number(
    analysis: Analysis, findings: Findings
) -> None:
    few = deepcopy(dict(analysis))
    sources = few["domains"]["math"]["parity"]["sources"]
    names = list(sources)
    for name, count in zip(names, [30, 29, *[500] * (len(names) - 2)], strict=True):
        sources[name]["counted"] = count
    (how, *_) = (f.how for f in view.parity(replace(findings, analysis=few)))
    assert how.endswith(f" Few pairs: {names[1]} 29.")


def test_styles_are_chosen_and_rejected_shares_for_each_domain(
    analysis: Analysis, findings: Findings
) -> None:
    table = view.styles(findings)
    assert table is not None
    assert table["heads"] == [("math", 52), ("code", 52), ("chat", 52)]
    style = analysis["domains"]["code"]["parity"]["all"]["style"]["list"]
    cells = dict(table["rows"])["list"]
    assert cells[1] == f"{share(style['chosen'], 1)} / {share(style['rejected'], 1)}"
    assert view.styles(replace(findings, analysis=None)) is None


def test_styles_that_no_response_uses_are_left_out(findings: Findings) -> None:
    unused = {"chosen": 0.0, "rejected": 0.0}
    parity = {"all": {"style": {"list": unused, "bold": {"chosen": 0.0, "rejected": 0.5}},
                      "style_pairs": 2}}  # fmt: skip
    only = {"domains": {"math": {"parity": parity}}}
    table = view.styles(replace(findings, analysis=only))
    assert table is not None
    assert table["rows"] == [("bold", ["0% / 50%"])]
    parity["all"]["style"] = {"list": unused}
    assert view.styles(replace(findings, analysis=only)) is None


def test_reward_against_length_says_the_rank_correlation(
    analysis: Analysis, findings: Findings
) -> None:
    figure = next(f for f in view.lengths(findings) if f.title.startswith("math"))
    (given,) = analysis["domains"]["math"]["lengths"]
    for row in figure.rows:
        entry = given["all"] if row.label == ALL else given["sources"][row.label]
        shown = float(row.first.replace("−", "-"))
        assert shown == pytest.approx(entry["spearman"], abs=0.006)

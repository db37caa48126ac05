from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from html import escape, unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fusechat import files, report
from fusechat.report import pairs_view
from fusechat.report.collect import Findings, collect
from fusechat.report.figures import share, word_kinds, word_parts
from fusechat.report.render import render

Analysis = Mapping[str, Any]
HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture(scope="module")
def findings(whole: tuple[Path, Path]) -> Findings:
    return collect(*whole)


@pytest.fixture(scope="module")
def page(findings: Findings) -> str:
    return unescape(render(findings))


def test_each_bar_of_the_funnel_says_its_prompts_and_reasons_in_words(
    analysis: Analysis, findings: Findings, page: str
) -> None:
    for row in pairs_view.built(findings):
        funnel = analysis["domains"][row["domain"]]["funnel"]
        found = {name: count for name, count, _ in row["parts"]}
        assert found == {
            **({"SFT": funnel["sft_prompts"]} if funnel["sft_prompts"] else {}),
            **({"DPO": funnel["dpo_prompts"]} if funnel["dpo_prompts"] else {}),
            **funnel["dropped_words"],
        }
        assert sum(found.values()) == row["prompts"] == funnel["prompts"]
        assert row["note"].startswith(f"{funnel['dropped']} of {funnel['prompts']} prompts were")
        words = ", ".join(f"{name} {count:,}" for name, count in found.items())
        assert f'aria-label="{row["domain"]}: {words}"' in page
        assert {o["origin"] for o in row["origins"]} == set(funnel["origins"])


def test_prompts_in_both_sets_are_drawn_once() -> None:
    funnel = {
        "prompts": 10, "sft_prompts": 6, "dpo_prompts": 5, "in_both": 3, "dropped": 2,
        "dropped_words": {"all wrong": 2}, "origins": {},
        "dropped_with_response": 0, "dropped_with_pair": 0,
    }  # fmt: skip
    found = Findings("", "", "", {}, {}, (), analysis={"domains": {"math": {"funnel": funnel}}})
    (row,) = pairs_view.built(found)
    assert [part[:2] for part in row["parts"]] == [
        ("SFT", 3), ("SFT and DPO", 3), ("DPO", 2), ("all wrong", 2),
    ]  # fmt: skip


def test_each_source_says_what_it_gives_alone_and_why_not(
    analysis: Analysis, findings: Findings, page: str
) -> None:
    figures = pairs_view.refusals(findings, "dpo")
    assert [figure.title for figure in figures] == ["math: pairs", "code: pairs", "chat: pairs"]
    for figure in figures:
        domain = figure.title.partition(":")[0]
        alone = analysis["domains"][domain]["funnel"]["sources"]["dpo"]
        assert {row.label: row.second for row in figure.rows} == {
            source: f"{entry['gives']:,}" for source, entry in alone.items()
        }
        for source, entry in alone.items():
            (label,) = re.findall(f'aria-label="{domain}, {source}: (gives one [^"]*)"', page)[:1]
            counted = dict(part.rsplit(" ", 1) for part in label.split(", "))
            wanted = {"gives one": entry["gives"], **entry["words"]}
            assert counted == {word: str(count) for word, count in wanted.items()}


def test_the_histogram_of_gaps_is_the_sum_of_the_sources_and_marks_both_ends(
    analysis: Analysis, findings: Findings
) -> None:
    for figure in pairs_view.margins(findings):
        window = analysis["domains"][figure.title.partition(":")[0]]["windows"]
        summed = [
            sum(found)
            for found in zip(*(s["counts"] for s in window["sources"].values()), strict=True)
        ]
        drawn = re.findall(r"<title>[^:]*: ([\d,]+)</title>", str(figure.picture))
        assert [int(count.replace(",", "")) for count in drawn] == summed
        assert "min_margin 0.01" in figure.picture
        assert "max_margin 0.1" in figure.picture
        total = Counter[str]()
        for entry in window["sources"].values():
            total.update({key: entry[key] for key in ("n", "under", "inside", "over")})
        assert f"Of {total['n']:,} gaps" in figure.how
        assert f"{share(total['inside'], total['n'])} in it" in figure.how


def test_the_window_in_quantiles_counts_from_the_smallest_gap(
    analysis: Analysis, findings: Findings
) -> None:
    # 10 gaps under, 70 in and 20 over the window: from the quantile 0.1 to the quantile 0.8.
    known = deepcopy(dict(analysis))
    for domain in known["domains"].values():
        for place, entry in enumerate(domain.get("windows", {}).get("sources", {}).values()):
            counts = {"n": 100, "under": 10, "inside": 70, "over": 20, "not_positive": 5}
            entry.update(counts if place == 0 else dict.fromkeys(counts, 0))
    for figure in pairs_view.margins(replace(findings, analysis=known)):
        assert "In quantiles of these gaps it goes from 10% to 80%." in figure.how


def test_a_window_in_quantiles_or_z_scores_is_said_as_the_recipe_says_it(
    findings: Findings,
) -> None:
    for window, words in (("quantiles", "quantiles of the gaps"), ("z_scores", "z-scores")):
        asked = {"math": {"window": window, "min_margin": 0.1, "max_margin": None}}
        found = pairs_view.margins(replace(findings, asked=asked))[0]
        assert f"The recipe says it in {words}" in found.how
        assert "0.1 to open" in found.how
    assert "The recipe says" not in pairs_view.margins(findings)[0].how


def test_yields_under_other_windows_are_those_that_were_counted(
    analysis: Analysis, findings: Findings
) -> None:
    for figure, grid in zip(pairs_view.yields(findings), pairs_view.grids(findings), strict=True):
        window = analysis["domains"][grid["domain"]]["windows"]
        assert [row.first for row in figure.rows] == [
            f"{window[key]:,}" for key in ("kept", "without_min", "without_max", "without_window")
        ]
        wider = window["without_window"] - window["kept"]
        assert wider > 0
        assert figure.rows[-1].second == f"+{wider:,}"
        assert [[n for n, _ in row["cells"]] for row in grid["rows"]] == window["grid"]["prompts"]
        assert figure.picture.count("<polyline") == 2


def test_curves_that_were_not_counted_are_left_out_and_the_note_says_why(
    findings: Findings,
) -> None:
    assert findings.analysis is not None
    changed = json.loads(json.dumps(findings.analysis))
    window = changed["domains"]["math"]["windows"]
    window |= {"max_curve": {}, "min_curve": {}, "grid": {}, "note": "fallback is off"}
    found = replace(findings, analysis=changed)
    assert pairs_view.yields(found)[0].picture == ""
    assert "fallback is off" in pairs_view.yields(found)[0].how
    assert "math" not in {grid["domain"] for grid in pairs_view.grids(found)}


def test_an_open_window_is_said_in_words() -> None:
    def said(low: float | None, high: float | None) -> str:
        return pairs_view.window_text({"min_margin": low, "max_margin": high})

    assert said(None, None) == "without a window"
    assert said(0.01, None) == "with a margin of 0.01 or more"
    assert said(None, 0.1) == "with a margin of 0.1 or less"
    assert said(0.01, 0.1) == "in the window 0.01 to 0.1"


def test_a_build_without_an_analysis_has_no_such_section(tmp_path: Path, made: ModuleType) -> None:
    space = made.Workspace(tmp_path)
    made.build_data(space, analysed=False)
    text = report.write(space.run(), tmp_path).read_text()
    assert 'id="why"' not in text
    assert 'href="#why"' not in text
    assert "Training rows built" in text


def test_an_analysis_of_another_format_is_left_out(tmp_path: Path, made: ModuleType) -> None:
    space = made.Workspace(tmp_path)
    made.build_data(space)
    path = space.folder("build") / "analysis.json"
    files.write_json(path, files.read_json(path) | {"format": 99})
    assert 'id="why"' not in report.write(space.run(), tmp_path).read_text()


def test_names_words_and_notes_are_shown_as_text(findings: Findings) -> None:
    assert findings.analysis is not None
    text = json.dumps(findings.analysis)
    for name in ("gemma", "all wrong", "the source gave no response", "math_a"):
        text = text.replace(json.dumps(name), json.dumps(HOSTILE + name))
    changed = json.loads(text)
    changed["domains"][HOSTILE] = changed["domains"].pop("math")
    changed["domains"][HOSTILE]["windows"]["note"] = HOSTILE
    changed["domains"][HOSTILE]["ablation"]["note"] = HOSTILE
    found = render(replace(findings, analysis=changed))
    assert HOSTILE not in found
    assert escape(HOSTILE + "gemma") in found.replace("&#34;", "&quot;")
    assert escape(HOSTILE + "all wrong") in found.replace("&#34;", "&quot;")


def test_words_of_one_kind_share_a_colour_and_differ_in_their_pattern() -> None:
    words = [
        {"word": "a", "kind": "verdict"},
        {"word": "b", "kind": "margin"},
        {"word": "c", "kind": "verdict"},
        {"word": "d", "kind": "of tomorrow"},
    ]
    kinds = word_kinds(words)
    assert kinds == {"a": "k-verdict", "b": "k-margin", "c": "k-verdict p1", "d": "k-rule"}
    counts = {"c": 2, "unknown": 1, "b": 3, "a": 0}
    assert word_parts(counts, kinds) == [
        ("b", 3, "k-margin"), ("c", 2, "k-verdict p1"), ("unknown", 1, "k-rule"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (1, 4, "25%"),
        (0, 4, "0%"),
        (4, 4, "100%"),
        (1, 1000, "<1%"),
        (999, 1000, ">99%"),
        (0, 0, "–"),
    ],
)
def test_a_small_share_is_never_called_nothing_nor_a_large_one_all(
    part: int, whole: int, text: str
) -> None:
    assert share(part, whole) == text

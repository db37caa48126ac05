from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.report.analysed import changed

from fusechat.report import attribution_view as view
from fusechat.report import pairs_view, rewards_view
from fusechat.report.collect import Findings, collect
from fusechat.report.figures import share

Analysis = Mapping[str, Any]


@pytest.fixture(scope="module")
def findings(whole: tuple[Path, Path]) -> Findings:
    return collect(*whole)


def test_the_table_of_winners_has_the_numbers_of_the_analysis(
    analysis: Analysis, findings: Findings
) -> None:
    table = next(t for t in view.winners(findings) if t["domain"] == "math")
    given = analysis["domains"]["math"]["attribution"]
    assert table["heads"][:3] == ["whole", "right by math", "median best score"]
    for row in table["rows"]:
        source = row["source"]
        entry = given["sources"][source]
        right = entry["right"]["math"]
        assert row["cells"][:2] == [
            share(entry["whole"], entry["responses"]),
            share(right["right"], right["judged"]),
        ]
        counted = [given[p][t].get(source, 0) for t in ("sft", "dpo") for p in view.PARTS]
        assert row["cells"][3:] == [f"{count:,}" for count in counted]


def test_a_source_without_responses_is_not_in_the_table(findings: Findings) -> None:
    assert findings.analysis is not None
    given = json.loads(json.dumps(findings.analysis["domains"]["math"]["attribution"]))
    given["sources"]["qwen"] |= {"responses": 0, "whole": 0, "best": {}, "right": {}}
    table = next(
        t
        for t in view.winners(changed(findings, "math", "attribution", given))
        if t["domain"] == "math"
    )
    assert [row["source"] for row in table["rows"]] == ["gemma", "mistral", "llama"]


def test_the_matrix_reads_from_row_to_column(analysis: Analysis, findings: Findings) -> None:
    table = next(t for t in view.duels(findings) if t["domain"] == "math")
    pairs = analysis["domains"]["math"]["attribution"]["duels"]["pairs"]
    names = [name for name, _ in table["heads"]]
    cells = {
        (row["source"], name): cell[0]
        for row in table["rows"]
        for name, cell in zip(names, row["cells"], strict=True)
    }
    for duel in pairs:
        assert cells[duel["a"], duel["b"]] == share(duel["a_wins"], duel["n"])
        assert cells[duel["b"], duel["a"]] == share(duel["b_wins"], duel["n"])
    assert all(cells[name, name] == "" for name in names)


def test_two_sources_that_never_met_have_a_dash(findings: Findings) -> None:
    assert findings.analysis is not None
    given = json.loads(json.dumps(findings.analysis["domains"]["math"]["attribution"]))
    given["duels"]["pairs"] = [
        {"a": "gemma", "b": "qwen", "n": 4, "a_wins": 3, "b_wins": 0, "ties": 1},
        {"a": "mistral", "b": "qwen", "n": 0, "a_wins": 0, "b_wins": 0, "ties": 0},
        {"a": "gemma", "b": "llama", "n": 2, "a_wins": 2, "b_wins": 0, "ties": 0},
    ]
    table = next(
        t
        for t in view.duels(changed(findings, "math", "attribution", given))
        if t["domain"] == "math"
    )
    rows = {row["source"]: [cell[0] for cell in row["cells"]] for row in table["rows"]}
    assert rows == {
        "gemma": ["", "75%", "100%"],
        "qwen": ["0%", "", "–"],
        "llama": ["0%", "–", ""],
    }


def test_without_scores_the_table_of_winners_has_no_column_of_scores(findings: Findings) -> None:
    tables = {table["domain"]: table for table in view.winners(findings)}
    assert "median best score" in tables["math"]["heads"]
    assert "median best score" not in tables["zh"]["heads"]
    for table in tables.values():
        assert all(len(row["cells"]) == len(table["heads"]) for row in table["rows"])


def test_other_builds_say_their_yield_and_the_best_single_source(findings: Findings) -> None:
    def build(sft: int, dpo: int, best: float | None = 0.2) -> dict[str, Any]:
        return {"sft_prompts": sft, "dpo_prompts": dpo, "dropped": 9, "mean_best": best,
                "right": {"math": sft}}  # fmt: skip

    given = {
        "all": build(40, 50), "note": "A note.",
        "without": {"gemma": build(30, 45), "qwen": build(40, 49)},
        "alone": {"gemma": build(10, 20), "qwen": build(30, 10)},
    }  # fmt: skip
    figure = view.other_sources(changed(findings, "math", "ablation", given))[0]
    assert [(row.label, row.first) for row in figure.rows] == [
        ("all sources", "50"), ("no gemma", "45"), ("no qwen", "49"),
        ("only gemma", "20"), ("only qwen", "10"),
    ]  # fmt: skip
    assert figure.heads == ("DPO", "mean best")
    assert "no source gives more than qwen: 10 prompts in DPO, 30 in SFT. A note." in figure.how
    unscored = {
        name: {source: found | {"mean_best": None} for source, found in builds.items()}
        for name, builds in (("without", {"gemma": build(30, 45)}), ("alone", {}))
    }
    given = given | unscored | {"all": build(40, 50, None)}
    figure = view.other_sources(changed(findings, "math", "ablation", given))[0]
    assert figure.heads == ("DPO", "solved")
    assert figure.rows[0].second == "40"


def test_builds_that_were_not_made_are_left_out(findings: Findings) -> None:
    empty = {"all": {}, "without": {}, "alone": {}, "note": "too many sources"}
    found = view.other_sources(changed(findings, "math", "ablation", empty))
    assert "math: yield" not in [figure.title for figure in found]


def test_picks_by_prompt_set_are_only_drawn_where_a_domain_has_several(
    analysis: Analysis, findings: Findings
) -> None:
    rows = {row["origin"]: row["n"] for use in view.by_origin(findings) for row in use["rows"]}
    wanted = analysis["domains"]["math"]["attribution"]["origins"]["math_a"]["dpo"]
    assert rows["math_a"] == sum(wanted.values())
    assert findings.analysis is not None
    funnel = json.loads(json.dumps(findings.analysis["domains"]["math"]["funnel"]))
    funnel["origins"] = {"math_a": funnel["origins"]["math_a"]}
    alone = view.by_origin(changed(findings, "math", "funnel", funnel))
    assert "math_a" not in {row["origin"] for use in alone for row in use["rows"]}


def test_a_domain_of_which_only_the_funnel_is_known_has_no_other_figure() -> None:
    funnel = {"funnel": {"tables": {}, "sources": {}, "origins": {}}}
    found = Findings("", "", "", {}, {}, (), analysis={"domains": {"law": {"rule": "", **funnel}}})
    for make in (view.winners, view.by_origin, view.duels, view.other_sources):
        assert make(found) == []
    for figures in (rewards_view.knowing, rewards_view.parity, rewards_view.lengths):
        assert figures(found) == []
    assert pairs_view.margins(found) == pairs_view.yields(found) == []

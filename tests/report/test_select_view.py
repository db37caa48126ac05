"""The section 'Chosen checkpoint', from what `select/dpo` says."""

from __future__ import annotations

from typing import Any

import pytest

from fusechat.report.collect import Findings
from fusechat.report.render import render
from fusechat.report.select_view import selection, told

RULE = {"by": "held_out", "checkpoints": 2, "final_state": "auto", "beyond_chance": True}
PAIRS = [
    {"step": 500, "checkpoint": True, "pairs": 512, "right": 400, "accuracy": 0.78125,
     "loss": 0.5, "margin": 0.012},
    {"step": 400, "checkpoint": True, "pairs": 512, "right": 380, "accuracy": 0.742,
     "loss": 0.52, "margin": 0.01},
]  # fmt: skip


def findings(selected: dict[str, Any] | None = None, **more: Any) -> Findings:
    return Findings(
        recipe="small", recipe_text="", target="t", sources={}, environment={}, units=(),
        selected=selected, **more,
    )  # fmt: skip


def chosen(candidates: list[dict[str, Any]], **rule: Any) -> dict[str, Any]:
    return {
        "rule": RULE | rule, "candidates": candidates, "step": candidates[0]["step"],
        "reason": "<because> 512 held-out pairs tell.", "comparisons": [],
    }  # fmt: skip


def test_the_states_stand_with_their_numbers_and_the_chosen_one_is_marked() -> None:
    found = selection(findings(chosen(PAIRS)))
    assert found is not None
    assert [(row.step, row.chosen) for row in found.rows] == [(500, True), (400, False)]
    assert found.rows[0].cells[:2] == ("512", "78.1 [74.3, 81.5]")
    assert "ranks more held-out pairs right" in found.rule
    assert "beyond chance (95%)" in found.rule
    page = render(findings(chosen(PAIRS)))
    assert "Chosen checkpoint" in page
    assert page.count(", <b>chosen</b>") == 1
    assert "&lt;because&gt; 512 held-out pairs tell." in page


def test_without_beyond_chance_the_rule_does_not_speak_of_it() -> None:
    found = selection(findings(chosen(PAIRS, beyond_chance=False)))
    assert found is not None
    assert "chance" not in found.rule


def test_no_pairs_are_shown_as_none_and_not_as_zero_percent() -> None:
    empty = [{"step": step, "checkpoint": True, "pairs": 0} for step in (500, 400)]
    found = selection(findings(chosen(empty)))
    assert found is not None
    assert [row.cells for row in found.rows] == [("0", "–", "–", "–")] * 2


def test_each_task_has_a_column_and_an_unjudged_one_a_dash() -> None:
    states = [
        {"step": step, "checkpoint": step == 400, "value": value, "tasks": {
            "math": {"value": 0.5, "expected": 50}, "chat": {"value": value, "expected": 20},
        }}
        for step, value in ((497, 0.25), (400, None))
    ]  # fmt: skip
    found = selection(findings(chosen(states, by="task")))
    assert found is not None
    assert found.heads == ["math (n=50)", "chat (n=20)", "mean"]
    assert found.rows[0].cells == ["50.0", "25.0", "25.0"]
    assert found.rows[1].cells == ["50.0", "–", "–"]
    assert [row.state for row in found.rows] == ["after the last step", "checkpoint"]


@pytest.mark.parametrize("by", ["last", "held_out"])
def test_one_state_alone_has_its_reason_and_no_table(by: str) -> None:
    found = selection(findings(chosen([{"step": 46, "checkpoint": False}], by=by)))
    assert found is not None
    assert not found.rows
    assert found.reason.startswith("Step 46: ")


def test_a_run_without_a_choice_has_no_such_section() -> None:
    assert selection(findings()) is None
    assert "Chosen checkpoint" not in render(findings())


def test_what_a_source_could_not_say_is_counted_with_its_reason() -> None:
    counts = {
        "responses": 1200, "status": {"ok": 1100, "unscorable": 100}, "token_logp": -0.8761,
        "tokens": 9, "reasons": {"unscorable": {"longer than the context of m (64 tokens)": 100}},
    }  # fmt: skip
    (row,) = told(findings(source_logps={"gemma": counts}))
    assert (row.source, row.responses, row.told, row.token_logp) == (
        "gemma", "1,200", "1,100", "-0.876",
    )  # fmt: skip
    assert row.reasons == ["100 unscorable: longer than the context of m (64 tokens)"]
    page = render(findings(source_logps={"gemma": counts}))
    assert "How likely the sources find" in page

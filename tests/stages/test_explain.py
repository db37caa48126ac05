"""Explaining one prompt: every response, what each source would give, and the split."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fusechat.errors import RecipeError
from fusechat.records import Prompt
from fusechat.stages.build import build
from fusechat.stages.context import UnitContext
from fusechat.stages.explain import as_text, dropped_rows, explain_prompt


def explained(context: UnitContext, prompt: Prompt) -> dict[str, Any]:
    return explain_prompt(prompt.id, context.inputs, context.settings, context.folder)


def test_a_pair_is_explained_with_all_responses_and_every_sources_say(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    rows = [{"rm": 0.15, "math": 1}, {"rm": 0.1, "math": 0}, {"rm": 0.3, "math": "unscorable"}]
    far = [{"rm": 0.5, "math": 1}, {"rm": 0.1, "math": 0}, {"rm": 0, "math": 0, "finish": "length"}]
    prompt = build_workspace.add("two plus two", "math", gemma=rows, qwen=far)
    build_workspace.add("another", "math", gemma=rows)
    context = build_workspace.context(paper_rules)
    build(context)
    found = explained(context, prompt)
    json.dumps(found)  # plain data
    ids = {(r["source"], r["index"]): r["response_id"] for r in found["responses"]}
    assert len(ids) == 6
    assert found["responses"][0]["text"] == "gemma 0 on two plus two"
    assert found["responses"][0]["picked"] == ["dpo chosen"]
    assert found["responses"][1]["picked"] == ["dpo rejected"]
    assert found["responses"][2]["scores"]["math"] == {
        "status": "unscorable", "value": None, "reason": "some reason",
    }  # fmt: skip
    dpo = found["strategies"]["dpo"]
    assert dpo["picked"][0]["chosen_id"] == ids["gemma", 0]
    assert dpo["sources"]["qwen"]["refused"] == "gap above max_margin"
    assert len(found["placed"]["dpo"]) == 1
    assert found["why"][-1] == "In DPO by the rule pair_else_sft, and not in SFT as well."
    text = as_text(found)
    assert "qwen alone: gives nothing: gap above max_margin (best 0.5, gap 0.4)" in text
    assert "not whole, cannot be picked" in text
    assert "math: unscorable (some reason)" in text
    assert f"{ids['gemma', 0]} over {ids['gemma', 1]}, margin 0.05 (source ranked 2)" in text


def test_a_dropped_prompt_says_why(build_workspace: Any, paper_rules: dict[str, Any]) -> None:
    prompt = build_workspace.add("flat", "chat", gemma=[{"rm": 0.1}, {"rm": 0.101}])
    context = build_workspace.context(paper_rules)
    build(context)
    found = explained(context, prompt)
    assert found["placed"]["dropped"][0]["details"]["dpo"]["reason"] == "gap below min_margin"
    assert found["why"][1:] == [
        "No DPO pair: gap below min_margin.",
        "Dropped by the rule filter_then_share: gap below min_margin (dpo).",
    ]
    assert [row["prompt_id"] for row in dropped_rows(context.folder)] == [prompt.id]
    assert dropped_rows(context.folder, "identical texts") == []


def test_a_prompt_that_the_split_drew_for_sft_says_so(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    prompt = build_workspace.add("good", "chat", gemma=[{"rm": 0.1}, {"rm": 0.15}])
    paper_rules["chat"]["split"]["sft_share"] = 1.0
    context = build_workspace.context(paper_rules)
    build(context)
    assert explained(context, prompt)["why"][-1] == (
        "In SFT by the rule filter_then_share, although it has a pair: the split drew it for SFT."
    )


def test_it_works_before_the_build_and_for_a_domain_without_a_rule(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    prompt = build_workspace.add("stray", "law", gemma=[{"rm": 0.1}])
    context = build_workspace.context(paper_rules)
    found = explain_prompt(prompt.id, context.inputs, context.settings)
    assert found["why"] == ["Dropped: no build rule for this domain."]
    assert found["placed"] == {}
    assert "law" in as_text(found)


def test_responses_of_sources_that_the_rule_leaves_out_are_marked(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    one = [{"rm": 0.1, "math": 1}]
    prompt = build_workspace.add("q", "math", gemma=one, qwen=one)
    paper_rules["math"]["sources"] = ["gemma"]
    context = build_workspace.context(paper_rules)
    build(context)
    found = explained(context, prompt)
    assert {r["source"]: r["used"] for r in found["responses"]} == {"gemma": True, "qwen": False}
    assert "source not used by this rule" in as_text(found)


def test_the_first_characters_of_an_id_are_enough_and_a_wrong_id_is_an_error(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    prompt = build_workspace.add("q", "chat", gemma=[{"rm": 0.1}])
    context = build_workspace.context(paper_rules)
    found = explain_prompt(prompt.id[:6], context.inputs, context.settings)
    assert found["prompt"]["id"] == prompt.id
    for wrong in ("zzzz", prompt.id[:2]):
        with pytest.raises(RecipeError, match="there is no prompt"):
            explain_prompt(wrong, context.inputs, context.settings)

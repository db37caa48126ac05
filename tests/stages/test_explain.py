"""Explaining one prompt: every response, what each source would give, and the split."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fusechat.errors import RecipeError
from fusechat.files import write_json
from fusechat.records import Prompt
from fusechat.stages.build import build
from fusechat.stages.context import UnitContext
from fusechat.stages.explain import as_text, dropped_rows, explain_prompt
from fusechat.stages.explain_details import as_line


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
    assert (
        "  1. qwen  none: gap above max_margin  (best #0 0.5; worst #1 0.1; gap 0.4)\n"
        "  2. gemma  gives it  (best #0 0.15; worst #1 0.1; gap 0.05)\n"
    ) in text
    assert "dpo: correct_over_incorrect, window 0.01 to 0.1: " in text
    assert "not whole, cannot be picked" in text
    assert "math: unscorable (some reason)" in text
    assert "gemma #0 over gemma #1, margin 0.05 (source ranked 2)" in text


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


def test_each_source_has_its_rank_its_ends_and_its_reason(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    near = [{"rm": 0.3, "math": 1}, {"rm": 0.25, "math": 0}, {"rm": 0.29, "math": "unscorable"}]
    prompt = build_workspace.add(
        "q", "math", gemma=near, qwen=[{"rm": 0.9, "math": 1}, {"rm": 0.1, "math": 0}]
    )
    context = build_workspace.context(paper_rules)
    build(context)
    found = explained(context, prompt)
    dpo = found["strategies"]["dpo"]
    assert dpo["window"] == {"min_margin": 0.01, "max_margin": 0.1}
    assert {name: one["rank"] for name, one in dpo["sources"].items()} == {"gemma": 2, "qwen": 1}
    qwen = dpo["sources"]["qwen"]
    assert qwen["refused"] == "gap above max_margin"
    assert (qwen["best"]["score"], qwen["worst"]["score"]) == (0.9, 0.1)
    assert qwen["gap"] == pytest.approx(0.8)
    gemma = dpo["sources"]["gemma"]
    assert (gemma["best"]["index"], gemma["worst"]["index"]) == (0, 1)
    sft = found["strategies"]["sft"]["sources"]
    assert {name: one["rank"] for name, one in sft.items()} == {"gemma": 2, "qwen": 1}
    assert "worst" not in sft["gemma"]
    assert (
        "in the window 0.01 to 0.1; tried before: qwen (gap above max_margin)." in found["why"][1]
    )


def test_the_source_that_was_tried_first_is_named_also_where_it_has_nothing_to_reject(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    prompt = build_workspace.add(
        "q",
        "math",
        gemma=[{"rm": 0.3, "math": 1}, {"rm": 0.25, "math": 0}],
        qwen=[{"rm": 0.9, "math": 1}, {"rm": 0.8, "math": 1}],
    )
    context = build_workspace.context(paper_rules)
    build(context)
    found = explained(context, prompt)
    dpo = found["strategies"]["dpo"]
    assert {name: one["rank"] for name, one in dpo["sources"].items()} == {"gemma": 2, "qwen": 1}
    assert dpo["sources"]["qwen"]["worst"] is None
    assert "(source ranked 2)" in found["why"][1]
    assert "; tried before: qwen (no incorrect response)." in found["why"][1]


def test_a_refusal_names_the_reason_of_every_source_where_they_differ(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    prompt = build_workspace.add(
        "q", "math", gemma=[{"rm": 0.3, "math": 1}], qwen=[{"rm": 0.9, "math": 0}]
    )
    context = build_workspace.context(paper_rules)
    build(context)
    found = explained(context, prompt)
    assert found["why"] == [
        "SFT response: gemma #0, score 0.3 (highest score among right responses).",
        "No DPO pair: no incorrect response (gemma no incorrect response, qwen no correct "
        "response).",
        "In SFT by the rule pair_else_sft.",
    ]
    qwen = found["strategies"]["dpo"]["sources"]["qwen"]
    assert (qwen["rank"], qwen["best"], qwen["worst"]["score"]) == (None, None, 0.9)


def test_a_window_in_other_units_is_shown_in_the_raw_ones_of_the_build(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    prompts = [
        build_workspace.add(f"q{n}", "chat", gemma=[{"rm": 0.5 + n / 100}, {"rm": 0.5}])
        for n in range(1, 6)
    ]
    window = {"window": "quantiles", "min_margin": 0.25, "max_margin": 0.75}
    paper_rules["chat"]["dpo"] |= window
    context = build_workspace.context(paper_rules)
    counts = build(context)
    # Gaps 0.01 to 0.05: their quartiles are 0.02 and 0.04.
    for folder in (None, context.folder):
        found = explain_prompt(prompts[0].id, context.inputs, context.settings, folder)
        said = found["strategies"]["dpo"]["window"]
        assert said == pytest.approx({"min_margin": 0.02, "max_margin": 0.04})
        assert found["strategies"]["dpo"]["refused"] == "gap below min_margin"
    assert counts["window"]["chat"]["min_margin"] == pytest.approx(0.02)


def test_what_annotators_noted_is_shown_beside_the_score(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    prompt = build_workspace.add(
        "q", "math", gemma=[{"rm": 0.3, "math": 0}, {"rm": 0.2, "math": 1}]
    )
    other = build_workspace.add("r", "math", gemma=[{"rm": 0.3, "math": 0}])
    noted = {
        "math": {"answer": "41", "gold": "42"},
        "rm": {"objectives": [0.5, -1.0, 0.1, 0.0], "gate": [0.2, 0.5, 0.1, 0.2]},
    }
    for name, details in noted.items():
        first = build_workspace.scores[name][0]
        build_workspace.scores[name][0] = first.model_copy(update={"details": json.dumps(details)})
    context = build_workspace.context(paper_rules)
    names = ["helpful", "verbose", "safe", "style"]
    manifest = {"counts": {"objectives": names}, "tables": {}}
    write_json(context.inputs["annotate/rm"] / "manifest.json", manifest)
    found = explained_before(context, prompt)
    scores = found["responses"][0]["scores"]
    assert scores["math"]["details"] == noted["math"]
    assert scores["rm"]["details"]["objectives"]["verbose"] == -1.0
    assert "details" not in found["responses"][1]["scores"]["math"]
    text = as_text(found)
    assert "math: 0  [answer 41; gold 42]" in text
    # 0.1, -0.5, 0.01 and 0: what each objective adds to the score.
    assert "[most from verbose -0.5, helpful +0.1, safe +0.01]" in text
    assert "[" not in as_text(explained_before(context, other))


def explained_before(context: UnitContext, prompt: Prompt) -> dict[str, Any]:
    return explain_prompt(prompt.id, context.inputs, context.settings)


@pytest.mark.parametrize(
    ("details", "line"),
    [
        ({"sandbox": "landlock+seccomp", "message": "assert f(2) == 4", "passed": 3, "of": 5},
         "sandbox landlock+seccomp; message assert f(2) == 4; passed 3; of 5"),
        ({"met": [True, False], "error": None}, "met [true, false]"),
        ({"constraints": 6, "failed": []}, "constraints 6"),
        ("plain words", "plain words"),
        ({"objectives": [0.1, 0.2], "gate": [1, 0]}, "2 objectives without names"),
    ],
)  # fmt: skip
def test_details_of_any_form_become_one_line(details: Any, line: str) -> None:
    assert as_line(details) == line

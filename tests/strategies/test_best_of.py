"""The SFT pick: worked examples, and an oracle that looks at every response."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.parts import Choice, Group, Groups, Judged, Refusal, Seen, load_part
from fusechat.strategies.best_of import BestOf


def picked(strategy: BestOf, group: Group) -> list[str]:
    found = strategy.select(group)
    assert not isinstance(found, Refusal), found
    return [choice.response_id for choice in found]


def test_the_highest_score_of_all_sources_wins(make_group: Any) -> None:
    group = make_group(gemma=[{"rm": 0.12}, {"rm": 0.15}], qwen=[{"rm": 0.14}, {"rm": 0.16}])
    assert BestOf(by="rm").select(group) == [Choice("qwen-1", 0.16, "highest score")]


def test_a_tie_goes_to_the_source_named_first_then_to_the_lowest_index(make_group: Any) -> None:
    group = make_group(gemma=[{"rm": 0.1}, {"rm": 0.2}, {"rm": 0.2}], qwen=[{"rm": 0.2}])
    assert picked(BestOf(by="rm"), group) == ["gemma-1"]
    swapped = replace(group, sources=("qwen", "gemma"))
    assert picked(BestOf(by="rm"), swapped) == ["qwen-0"]


def test_random_ties_are_spread_over_prompts_but_fixed_for_each(make_group: Any) -> None:
    strategy = BestOf(by="ok", ties="random")
    rows = {"gemma": [{"ok": 1}], "qwen": [{"ok": 1}]}
    first = [picked(strategy, make_group(f"p{n}", **rows))[0] for n in range(40)]
    assert set(first) == {"gemma-0", "qwen-0"}
    assert first == [picked(strategy, make_group(f"p{n}", **rows))[0] for n in range(40)]


def test_only_right_responses_count_where_correctness_is_asked(make_group: Any) -> None:
    group = make_group(gemma=[{"rm": 0.2, "ok": 0}, {"rm": 0.1, "ok": 1}])
    assert picked(BestOf(by="rm", correct_by="ok"), group) == ["gemma-1"]


def test_tests_passed_in_part_are_not_right(make_group: Any) -> None:
    found = BestOf(by=None, correct_by="ok").select(make_group(gemma=[{"ok": 0.5}]))
    assert isinstance(found, Refusal)
    assert found.reason == "no correct response"


def test_without_a_reward_model_the_first_right_one_in_source_order_wins(make_group: Any) -> None:
    group = make_group(gemma=[{"ok": 0}, {"ok": "error"}], qwen=[{"ok": 0}, {"ok": 1}, {"ok": 1}])
    assert BestOf(by=None, correct_by="ok").select(group) == [
        Choice("qwen-1", None, "first among right responses")
    ]
    assert picked(BestOf(by=None), group) == ["gemma-0"]


def test_most_correct_prefers_the_source_that_is_right_more_often_to_a_lucky_one(
    make_group: Any,
) -> None:
    """gemma is right in 1 of 3; qwen in 2 of 2, what could not be judged and a cut one aside."""
    group = make_group(
        gemma=[{"ok": 1}, {"ok": 0}, {"ok": 0}],
        qwen=[{"ok": 0, "finish": "length"}, {"ok": "error"}, {"ok": 1}, {"ok": 1}],
    )
    assert picked(BestOf(by=None, correct_by="ok"), group) == ["gemma-0"]
    assert picked(BestOf(by=None, correct_by="ok", ties="most_correct"), group) == ["qwen-2"]


def test_most_correct_without_verdicts_is_a_fault() -> None:
    assert [key for key, _ in BestOf(by=None, ties="most_correct").faults()] == ["ties"]


@pytest.mark.parametrize("status", ["unscorable", "error"])
def test_a_response_that_could_not_be_scored_is_not_a_zero(make_group: Any, status: str) -> None:
    group = make_group(gemma=[{"rm": status}, {"rm": -3.0}])
    assert picked(BestOf(by="rm"), group) == ["gemma-1"]


def test_a_score_that_is_not_a_finite_number_is_left_out(make_group: Any) -> None:
    group = make_group(gemma=[{"rm": float("nan")}, {"rm": float("inf")}, {"rm": 0.1}])
    assert picked(BestOf(by="rm"), group) == ["gemma-2"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "no response"),
        ([{"rm": 1, "ok": 1, "finish": "length"}, {"rm": 1, "text": ""}], "no whole response"),
        ([{"rm": 0.1, "ok": "unscorable"}, {"rm": 0.1}], "no scored response"),
        ([{"rm": 0.1, "ok": 0}, {"rm": 0.1, "ok": "error"}], "no correct response"),
        ([{"rm": "error", "ok": 1}, {"rm": 0.2, "ok": 0}], "no scored correct response"),
    ],
)  # fmt: skip
def test_the_refusal_names_the_last_thing_that_was_missing(
    make_group: Any, rows: list[dict[str, Any]], reason: str
) -> None:
    found = BestOf(by="rm", correct_by="ok").select(make_group(gemma=rows))
    assert isinstance(found, Refusal)
    assert found.reason == reason


def test_the_refusal_counts_why_responses_were_left_out(make_group: Any) -> None:
    rows = [{"rm": "error"}, {"rm": "unscorable"}, {"rm": 1, "finish": "length"}, {}]
    found = BestOf(by="rm").select(make_group(gemma=rows))
    assert isinstance(found, Refusal)
    assert found.details["left_out"] == {
        "cut": 1, "rm: error (some reason)": 1, "rm: no score": 1,
        "rm: unscorable (some reason)": 1,
    }  # fmt: skip


def test_a_response_that_could_not_be_judged_is_counted_with_its_annotators_reason() -> None:
    why = "tests fail on their own reference solution"
    seen = Seen("a", "gemma", 0, "stop", True, "0" * 16, 3, {"ok": Judged("unscorable", None, why)})
    group = Group("p", "code", ("gemma",), (seen,))
    strategy = BestOf(by=None, correct_by="ok")
    found = strategy.select(group)
    assert isinstance(found, Refusal)
    assert found.details["left_out"] == {f"ok: unscorable ({why})": 1}
    groups = Groups.of([group])
    (details,) = strategy.refusal_details(groups, strategy.select_all(groups), [0])
    assert details["left_out"] == found.details["left_out"]


def test_per_source_gives_each_sources_best_in_rank(make_group: Any) -> None:
    group = make_group(
        gemma=[{"rm": 0.1}, {"rm": 0.2}], mistral=[{"rm": "error"}], qwen=[{"rm": 0.3}]
    )
    assert picked(BestOf(by="rm", responses_per_prompt="per_source"), group) == [
        "qwen-0",
        "gemma-1",
    ]


def test_a_recipe_must_say_by_what() -> None:
    with pytest.raises(ValueError, match="by"):
        load_part("strategies", {"use": "best_of"})
    part = load_part("strategies", {"use": "best_of", "by": None})
    assert isinstance(part, BestOf)
    assert part.annotators() == ()


@given(data=st.data())
def test_the_pick_agrees_with_a_search_over_all_responses(
    any_group: st.SearchStrategy[Group], data: st.DataObject
) -> None:
    group = data.draw(any_group)
    by = data.draw(st.sampled_from(["rm", None]))
    correct_by = data.draw(st.sampled_from(["ok", None]))
    found = BestOf(by=by, correct_by=correct_by).select(group)
    best = None
    for source in group.sources:
        for index in range(6):
            for r in group.responses:
                if (r.source, r.index) != (source, index) or not r.whole:
                    continue
                if correct_by and r.scores["ok"].value != 1.0:
                    continue
                if by and r.scores["rm"].status != "ok":
                    continue
                if best is None or (by and r.scores["rm"].value > best.scores["rm"].value):  # type: ignore[operator]
                    best = r
    if best is None:
        assert isinstance(found, Refusal)
    else:
        assert [choice.response_id for choice in found] == [best.response_id]  # type: ignore[union-attr]


@given(data=st.data())
def test_the_order_of_responses_does_not_matter(
    any_group: st.SearchStrategy[Group], data: st.DataObject
) -> None:
    group = data.draw(any_group)
    mixed = replace(group, responses=tuple(data.draw(st.permutations(group.responses))))
    for strategy in (
        BestOf(by="rm", correct_by="ok"),
        BestOf(by=None),
        BestOf(by="ok", ties="random", responses_per_prompt="per_source"),
    ):
        assert strategy.select(group) == strategy.select(mixed)

"""FuseRL's pairs: one of every source, weighted by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.parts import Group, PairChoice, Refusal
from fusechat.strategies.correct_over_incorrect import CorrectOverIncorrect
from fusechat.strategies.each_source_margin import EachSourceMargin
from fusechat.strategies.same_source_margin import SameSourceMargin

OPEN: dict[str, Any] = {"min_margin": None, "max_margin": None}


def pairs_of(strategy: EachSourceMargin, group: Group) -> list[PairChoice]:
    said = strategy.select(group)
    assert not isinstance(said, Refusal), said
    return list(said)


def ids(pair: PairChoice) -> tuple[str, str]:
    return pair.chosen_id, pair.rejected_id


def test_every_source_gives_its_best_over_its_worst_with_the_softmax_of_the_best(
    make_group: Any,
) -> None:
    # best 2 and 1: e / (e + 1) = 0.731059
    group = make_group(
        gemma=[{"rm": 1.0}, {"rm": 0.0}, {"rm": 0.5}], qwen=[{"rm": 0.5}, {"rm": 2.0}]
    )
    found = pairs_of(EachSourceMargin(by="rm", **OPEN), group)
    assert [ids(pair) for pair in found] == [("qwen-1", "qwen-0"), ("gemma-0", "gemma-1")]
    assert [pair.weight for pair in found] == pytest.approx([0.731059, 0.268941], abs=1e-6)
    assert [pair.margin for pair in found] == [1.5, 1.0]


def test_weights_are_shared_by_the_sources_whose_gap_is_in_the_window(make_group: Any) -> None:
    group = make_group(
        gemma=[{"rm": 0.15}, {"rm": 0.10}],
        qwen=[{"rm": 0.90}, {"rm": 0.10}],
        llama=[{"rm": 0.14}, {"rm": 0.10}],
    )
    found = pairs_of(EachSourceMargin(by="rm", temperature=0.01), group)
    assert [pair.chosen_id for pair in found] == ["gemma-0", "llama-0"]
    assert found[0].weight == pytest.approx(math.e / (1 + math.e))


def test_with_verdicts_the_chosen_one_is_right_and_the_rejected_one_wrong(make_group: Any) -> None:
    group = make_group(
        gemma=[{"rm": 0.9, "ok": 0}, {"rm": 1.0, "ok": 1}, {"rm": 0.2, "ok": 0}],
        qwen=[{"rm": 0.3, "ok": 1}, {"rm": 0.1, "ok": 1}],
    )
    (pair,) = pairs_of(EachSourceMargin(by="rm", correct_by="ok", **OPEN), group)
    assert (*ids(pair), pair.weight) == ("gemma-1", "gemma-2", 1.0)
    (first,) = pairs_of(EachSourceMargin(by=None, correct_by="ok", **OPEN), group)
    assert (*ids(first), first.margin, first.weight) == ("gemma-1", "gemma-0", None, 1.0)


def test_a_prompt_without_a_pair_says_why(make_group: Any) -> None:
    said = EachSourceMargin(by="rm").select(make_group(gemma=[{"rm": 0.1}], qwen=[{"rm": 0.05}]))
    assert isinstance(said, Refusal)
    assert said.reason == "only one scored response"


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({"by": None, **OPEN}, ["by"]),
        ({"by": None, "correct_by": "ok", "min_margin": 0.1, "max_margin": None}, ["min_margin"]),
        ({"by": None, "correct_by": "ok", "temperature": 1.0, **OPEN}, ["temperature"]),
        ({"by": "rm"}, []),
    ],
)
def test_settings_that_need_scores_are_faults_without(settings: Any, places: list[str]) -> None:
    assert [key for key, _ in EachSourceMargin(**settings).faults()] == places


@pytest.mark.parametrize("name", ["pairs_per_prompt", "source_choice", "fallback"])
def test_what_would_leave_a_source_out_is_no_setting(name: str) -> None:
    other = {"pairs_per_prompt": 1, "source_choice": "random", "fallback": False}[name]
    with pytest.raises(ValueError, match=name):
        EachSourceMargin(by="rm", **{name: other})


@given(st.data())
def test_pairs_are_those_of_the_single_source_strategies_and_weights_sum_to_1(
    any_group: Any, data: Any
) -> None:
    group = data.draw(any_group)
    by, correct_by = data.draw(st.sampled_from([("rm", None), ("rm", "ok"), (None, "ok")]))
    window = {"min_margin": 0.01, "max_margin": 0.1} if by else OPEN
    said = EachSourceMargin(by=by, correct_by=correct_by, **window).select(group)
    alike = (
        SameSourceMargin(by="rm", pairs_per_prompt="per_source", **window)
        if correct_by is None
        else CorrectOverIncorrect(
            by=by, correct_by=correct_by, pairs_per_prompt="per_source", **window
        )
    ).select(group)
    if isinstance(said, Refusal) or isinstance(alike, Refusal):
        assert said == alike
        return
    assert [ids(pair) for pair in said] == [ids(pair) for pair in alike]
    assert sum(pair.weight for pair in said) == pytest.approx(1.0)

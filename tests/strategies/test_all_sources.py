"""FuseRL's SFT rows: one of every source, weighted by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.parts import Choice, Group, Refusal
from fusechat.strategies.all_sources import AllSources
from fusechat.strategies.best_of import BestOf


def picks_of(strategy: AllSources, group: Group) -> list[Choice]:
    said = strategy.select(group)
    assert not isinstance(said, Refusal), said
    return list(said)


def test_every_sources_best_response_has_the_softmax_of_its_score(make_group: Any) -> None:
    # e^1 : e^2 : e^4 over their sum 2.718282 + 7.389056 + 54.598150 = 64.705488
    group = make_group(gemma=[{"rm": 1.0}, {"rm": 0.5}], qwen=[{"rm": 4.0}], llama=[{"rm": 2.0}])
    found = picks_of(AllSources(by="rm"), group)
    assert [pick.response_id for pick in found] == ["qwen-0", "llama-0", "gemma-0"]
    assert [pick.weight for pick in found] == pytest.approx(
        [0.843795, 0.114195, 0.042010], abs=1e-6
    )


def test_the_temperature_divides_the_scores(make_group: Any) -> None:
    # 0.15 and 0.14 at temperature 0.01: e^1 / (e^1 + 1) = 0.731059
    group = make_group(gemma=[{"rm": 0.14}], qwen=[{"rm": 0.15}])
    found = picks_of(AllSources(by="rm", temperature=0.01), group)
    assert [pick.weight for pick in found] == pytest.approx([0.731059, 0.268941], abs=1e-6)
    flat = picks_of(AllSources(by="rm", temperature=1e6), group)
    assert [pick.weight for pick in flat] == pytest.approx([0.5, 0.5], abs=1e-6)


def test_with_verdicts_only_sources_that_are_right_have_a_weight(make_group: Any) -> None:
    group = make_group(
        gemma=[{"rm": 9.0, "ok": 0}], qwen=[{"rm": 2.0, "ok": 1}], llama=[{"rm": 1.0, "ok": 1}]
    )
    found = picks_of(AllSources(by="rm", correct_by="ok"), group)
    assert [pick.response_id for pick in found] == ["qwen-0", "llama-0"]
    assert found[0].weight == pytest.approx(math.e / (1 + math.e))
    equal = picks_of(AllSources(by=None, correct_by="ok"), group)
    assert [pick.weight for pick in equal] == [0.5, 0.5]


def test_a_prompt_of_one_source_has_the_weight_1(make_group: Any) -> None:
    group = make_group(gemma=[{"rm": -3.0}, {"rm": "error"}], qwen=[{"rm": "error"}])
    assert [pick.weight for pick in picks_of(AllSources(by="rm"), group)] == [1.0]


def test_scores_far_apart_give_weights_and_no_overflow(make_group: Any) -> None:
    group = make_group(gemma=[{"rm": 1e300}], qwen=[{"rm": -1e300}])
    assert [p.weight for p in picks_of(AllSources(by="rm", temperature=0.1), group)] == [1.0, 0.0]


def test_a_prompt_without_a_response_says_why(make_group: Any) -> None:
    said = AllSources(by="rm").select(make_group(gemma=[{"rm": "error"}], qwen=[]))
    assert isinstance(said, Refusal)
    assert said.reason == "no scored response"
    assert said.details["left_out"] == {"rm: error (some reason)": 1}


def test_a_temperature_without_scores_is_a_fault() -> None:
    found = [key for key, _ in AllSources(by=None, correct_by="ok", temperature=2).faults()]
    assert found == ["temperature"]


@given(st.data())
def test_weights_of_a_prompt_sum_to_1_and_rows_are_those_of_best_of(
    any_group: Any, data: Any
) -> None:
    group = data.draw(any_group)
    by, correct_by = data.draw(st.sampled_from([("rm", None), ("rm", "ok"), (None, "ok")]))
    temperature = data.draw(st.sampled_from([0.01, 1.0, 50.0])) if by else 1.0
    said = AllSources(by=by, correct_by=correct_by, temperature=temperature).select(group)
    each = BestOf(by=by, correct_by=correct_by, responses_per_prompt="per_source").select(group)
    assert isinstance(said, Refusal) == isinstance(each, Refusal)
    if isinstance(said, Refusal) or isinstance(each, Refusal):
        return
    assert [pick.response_id for pick in said] == [pick.response_id for pick in each]
    weights = [pick.weight for pick in said]
    assert sum(weights) == pytest.approx(1.0)
    assert weights == sorted(weights, reverse=True)

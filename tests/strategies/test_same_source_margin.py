"""Instruction pairs: worked examples, the window's ends, and a brute-force oracle."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.parts import Group, PairChoice, Refusal
from fusechat.strategies._common import outside
from fusechat.strategies.same_source_margin import SameSourceMargin

PAPER = SameSourceMargin(by="rm")


def picks(strategy: SameSourceMargin, group: Group) -> Sequence[PairChoice]:
    found = strategy.select(group)
    assert not isinstance(found, Refusal), found
    return found


def pairs(strategy: SameSourceMargin, group: Group) -> list[tuple[str, str]]:
    return [(pair.chosen_id, pair.rejected_id) for pair in picks(strategy, group)]


def refusal(strategy: SameSourceMargin, group: Group) -> Refusal:
    found = strategy.select(group)
    assert isinstance(found, Refusal), found
    return found


def scores(*values: Any) -> list[dict[str, Any]]:
    return [{"rm": value} for value in values]


def test_the_pair_is_best_over_worst_of_the_source_with_the_best_response(make_group: Any) -> None:
    group = make_group(gemma=scores(0.14, 0.10, 0.12), qwen=scores(0.15, 0.11, 0.09))
    (pair,) = picks(PAPER, group)
    assert (pair.chosen_id, pair.rejected_id) == ("qwen-0", "qwen-2")
    assert (pair.chosen_score, pair.rejected_score) == (0.15, 0.09)
    assert pair.margin == pytest.approx(0.06)
    assert pair.reason == "source ranked 1"


def test_the_next_source_is_tried_where_the_best_ones_gap_is_outside(make_group: Any) -> None:
    group = make_group(gemma=scores(0.14, 0.10), qwen=scores(0.30, 0.10))
    (pair,) = picks(PAPER, group)
    assert (pair.chosen_id, pair.rejected_id) == ("gemma-0", "gemma-1")
    assert pair.reason == "source ranked 2"


def test_without_fallback_the_best_sources_reason_is_the_prompts(make_group: Any) -> None:
    group = make_group(gemma=scores(0.14, 0.10), qwen=scores(0.30, 0.10))
    found = refusal(SameSourceMargin(by="rm", fallback=False), group)
    assert found.reason == "gap above max_margin"
    assert found.details["sources"]["gemma"]["reason"] == "not tried (fallback: false)"


def test_the_prompts_reason_is_the_best_sources_and_all_reasons_are_kept(make_group: Any) -> None:
    group = make_group(
        gemma=scores(0.1, 0.1),
        mistral=[{"rm": 0.5, "finish": "length"}],
        qwen=scores(0.105, 0.1),
        llama=scores(0.09),
    )
    found = refusal(PAPER, group)
    assert found.reason == "gap below min_margin"
    reasons = {name: numbers["reason"] for name, numbers in found.details["sources"].items()}
    assert reasons == {
        "gemma": "gap below min_margin",
        "mistral": "no whole response",
        "qwen": "gap below min_margin",
        "llama": "only one scored response",
    }
    assert found.details["left_out"] == {"cut": 1}


# 0.11 - 0.10 is 0.009999999999999995 in binary: it is still a gap of 0.01.
@pytest.mark.parametrize(
    ("high", "low", "reason"),
    [
        (0.11, 0.10, ""),
        (0.20, 0.10, ""),
        (0.15, 0.05, ""),
        (0.1099, 0.10, "gap below min_margin"),
        (0.2001, 0.10, "gap above max_margin"),
        (0.10, 0.10, "gap below min_margin"),
    ],
)
def test_both_ends_of_the_window_are_inside(
    make_group: Any, high: float, low: float, reason: str
) -> None:
    found = PAPER.select(make_group(gemma=scores(high, low)))
    assert (found.reason if isinstance(found, Refusal) else "") == reason


@given(low=st.integers(-300, 300), gap=st.integers(10, 100))
def test_a_decimal_gap_inside_the_window_is_never_lost_to_rounding(low: int, gap: int) -> None:
    assert outside((low + gap) / 1000 - low / 1000, 0.01, 0.1, True) == ""


@given(low=st.integers(-300, 300), gap=st.integers(-200, 200).filter(lambda g: not 10 <= g <= 100))
def test_a_decimal_gap_outside_the_window_never_passes(low: int, gap: int) -> None:
    assert outside((low + gap) / 1000 - low / 1000, 0.01, 0.1, True) != ""


def test_scores_of_a_float32_model_reach_the_windows_end(make_group: Any) -> None:
    # float32(0.2) - float32(0.1) is 0.10000000149 in float64, and 0.1 in float32.
    high, low = float(np.float32(0.2)), float(np.float32(0.1))
    assert high - low > 0.1 + 1e-9
    assert pairs(PAPER, make_group(gemma=scores(high, low))) == [("gemma-0", "gemma-1")]


def test_equal_scores_are_no_preference_even_without_a_window(make_group: Any) -> None:
    free = SameSourceMargin(by="rm", min_margin=None, max_margin=None)
    assert refusal(free, make_group(gemma=scores(0.1, 0.1))).reason == "equal scores"
    assert pairs(free, make_group(gemma=scores(5.0, -5.0))) == [("gemma-0", "gemma-1")]


def test_identical_texts_make_no_pair(make_group: Any) -> None:
    group = make_group(gemma=[{"rm": 0.2, "text": "same"}, {"rm": 0.15, "text": "same"}])
    assert refusal(PAPER, group).reason == "identical texts"


def test_unscorable_failed_and_cut_responses_are_never_the_worst(make_group: Any) -> None:
    rows = [
        {"rm": 0.15},
        {"rm": "unscorable"},
        {"rm": "error"},
        {"rm": 0.06, "finish": "length"},
        {"rm": 0.10},
    ]
    assert pairs(PAPER, make_group(gemma=rows)) == [("gemma-0", "gemma-4")]


def test_lowest_within_window_takes_another_negative_where_the_worst_is_too_far(
    make_group: Any,
) -> None:
    group = make_group(gemma=scores(0.30, 0.05, 0.21, 0.25))
    assert refusal(PAPER, group).reason == "gap above max_margin"
    wide = SameSourceMargin(by="rm", negative_choice="lowest_within_window")
    assert pairs(wide, group) == [("gemma-0", "gemma-2")]


def test_per_source_gives_one_pair_of_each_source_that_has_one(make_group: Any) -> None:
    group = make_group(gemma=scores(0.14, 0.10), mistral=scores(0.9, 0.1), qwen=scores(0.2, 0.15))
    each = SameSourceMargin(by="rm", pairs_per_prompt="per_source")
    assert pairs(each, group) == [("qwen-0", "qwen-1"), ("gemma-0", "gemma-1")]


def test_max_gap_in_window_takes_the_widest_valid_gap(make_group: Any) -> None:
    group = make_group(gemma=scores(0.18, 0.10), mistral=scores(0.9, 0.1), qwen=scores(0.2, 0.15))
    widest = SameSourceMargin(by="rm", source_choice="max_gap_in_window")
    assert pairs(widest, group) == [("gemma-0", "gemma-1")]
    narrow = make_group(gemma=scores(0.101, 0.1), mistral=scores(0.9, 0.1))
    assert refusal(widest, narrow).reason == "gap above max_margin"


def test_drawn_sources_differ_between_prompts_and_not_between_runs(make_group: Any) -> None:
    rows = {"gemma": scores(0.14, 0.10), "mistral": scores(0.3, 0.25), "qwen": scores(0.2, 0.15)}
    for choice in ("random", "round_robin"):
        strategy = SameSourceMargin(by="rm", source_choice=choice)
        drawn = [pairs(strategy, make_group(f"p{n}", **rows))[0][0] for n in range(60)]
        assert {name.partition("-")[0] for name in drawn} == set(rows)
        assert drawn == [pairs(strategy, make_group(f"p{n}", **rows))[0][0] for n in range(60)]


def test_another_seed_draws_other_sources(make_group: Any) -> None:
    rows = {"gemma": scores(0.14, 0.10), "qwen": scores(0.2, 0.15)}
    one, two = (SameSourceMargin(by="rm", source_choice="random", seed=s) for s in (1, 2))
    groups = [make_group(f"p{n}", **rows) for n in range(40)]
    assert [pairs(one, g) for g in groups] != [pairs(two, g) for g in groups]


def test_a_window_that_nothing_can_pass_is_a_fault_with_its_mend() -> None:
    assert list(SameSourceMargin(by="rm", min_margin=0.2).faults()) == [
        (
            "min_margin",
            "0.2 is above max_margin (0.1), so no pair can pass. FuseChat-3.0 uses 0.01 to 0.1.",
        )
    ]
    assert [key for key, _ in SameSourceMargin(by="rm", min_margin=-0.1).faults()] == ["min_margin"]
    shut = SameSourceMargin(by="rm", min_margin=None, max_margin=0)
    assert [key for key, _ in shut.faults()] == ["max_margin"]
    assert list(PAPER.faults()) == []


def test_a_fallback_that_cannot_matter_is_a_fault() -> None:
    strategy = SameSourceMargin(by="rm", fallback=False, pairs_per_prompt="per_source")
    assert [key for key, _ in strategy.faults()] == ["fallback"]


# The oracle: every ordered pair of one source, kept where nobody of the source scores above the
# chosen or below the rejected one; the best chosen score wins.
def oracle(group: Group) -> tuple[str, str] | None:
    best: tuple[Any, ...] | None = None
    usable = [r for r in group.responses if r.whole and r.scores["rm"].status == "ok"]
    for c, r in itertools.permutations(usable, 2):
        mates = [m for m in usable if m.source == c.source]
        high, low = (float(x.scores["rm"].value or 0) for x in (c, r))
        if c.source != r.source or c.text_digest == r.text_digest:
            continue
        if any((float(m.scores["rm"].value or 0), -m.index) > (high, -c.index) for m in mates):
            continue
        if any(
            (float(m.scores["rm"].value or 0), m.index) < (low, r.index) for m in mates if m != c
        ):
            continue
        if not 10 <= round((high - low) * 1000) <= 100:
            continue
        rank = (-high, group.sources.index(c.source))
        if best is None or rank < best[0]:
            best = (rank, (c.response_id, r.response_id))
    return None if best is None else best[1]


@given(data=st.data())
def test_the_pair_agrees_with_a_search_over_all_pairs(
    any_group: st.SearchStrategy[Group], data: st.DataObject
) -> None:
    group = data.draw(any_group)
    found, wanted = PAPER.select(group), oracle(group)
    got = None if isinstance(found, Refusal) else (found[0].chosen_id, found[0].rejected_id)
    assert got == wanted


any_settings = st.builds(
    SameSourceMargin,
    by=st.just("rm"),
    min_margin=st.sampled_from([None, 0.0, 0.01, 0.05]),
    max_margin=st.sampled_from([None, 0.05, 0.1]),
    pairs_per_prompt=st.sampled_from([1, "per_source"]),
    source_choice=st.sampled_from(["global_max", "max_gap_in_window", "random", "round_robin"]),
    fallback=st.booleans(),
    negative_choice=st.sampled_from(["min_only", "lowest_within_window"]),
)


@given(data=st.data(), strategy=any_settings)
def test_whatever_the_settings_a_pair_is_two_whole_differing_responses_of_one_source(
    any_group: st.SearchStrategy[Group], data: st.DataObject, strategy: SameSourceMargin
) -> None:
    group = data.draw(any_group)
    found = strategy.select(group)
    mixed = replace(group, responses=tuple(data.draw(st.permutations(group.responses))))
    assert strategy.select(mixed) == found
    if isinstance(found, Refusal):
        assert found.reason
        return
    seen = {r.response_id: r for r in group.responses}
    assert 1 <= len(found) <= (1 if strategy.pairs_per_prompt == 1 else len(group.sources))
    for pair in found:
        chosen, rejected = seen[pair.chosen_id], seen[pair.rejected_id]
        assert chosen.whole
        assert rejected.whole
        assert chosen.source == rejected.source
        assert chosen.text_digest != rejected.text_digest
        assert pair.chosen_score == chosen.scores["rm"].value
        assert pair.margin is not None
        assert pair.margin > 0
        assert np.float32(pair.margin) >= np.float32(strategy.min_margin or 0) - 1e-9
        assert np.float32(pair.margin) <= np.float32(strategy.max_margin or 9) + 1e-9

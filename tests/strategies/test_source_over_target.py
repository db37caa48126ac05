"""The triples of WRPO: worked examples, and what must hold of every group."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.parts import Group, Refusal, TripleChoice
from fusechat.strategies.source_over_target import SourceOverTarget

WRPO = SourceOverTarget(by="rm", target="own")


def reason_of(strategy: SourceOverTarget, group: Group) -> str:
    said = strategy.select(group)
    assert isinstance(said, Refusal), said
    return said.reason


def triple_of(strategy: SourceOverTarget, group: Group) -> TripleChoice:
    said = strategy.select(group)
    assert not isinstance(said, Refusal), said
    (one,) = said
    return one


def test_the_best_of_all_sources_stands_beside_the_targets_best_and_worst(make_group: Any) -> None:
    group = make_group(
        gemma=[{"rm": 0.12}, {"rm": 0.18}],
        own=[{"rm": 0.10}, {"rm": 0.20}, {"rm": 0.05}],
        qwen=[{"rm": 0.17}],
    )
    assert triple_of(WRPO, group) == TripleChoice(
        "gemma-1", "own-1", "own-2", 0.18, 0.20, 0.05, pytest.approx(0.15), "highest score"
    )


def test_of_equal_scores_the_source_named_first_and_the_lowest_index_are_taken(
    make_group: Any,
) -> None:
    group = make_group(
        gemma=[{"rm": 0.1}], qwen=[{"rm": 0.2}, {"rm": 0.2}], llama=[{"rm": 0.2}],
        own=[{"rm": 0.1}, {"rm": 0.3}, {"rm": 0.1}, {"rm": 0.3}],
    )  # fmt: skip
    one = triple_of(WRPO, group)
    assert (one.source_chosen_id, one.target_chosen_id, one.rejected_id) == (
        "qwen-0", "own-1", "own-0",
    )  # fmt: skip


def test_with_verdicts_both_chosen_ones_are_right_and_the_rejected_one_is_wrong(
    make_group: Any,
) -> None:
    group = make_group(
        gemma=[{"rm": 0.9, "ok": 0}, {"rm": 0.2, "ok": 1}],
        own=[
            {"rm": 0.9, "ok": 0},
            {"rm": 0.3, "ok": 1},
            {"rm": 0.1, "ok": 1},
            {"rm": 0.2, "ok": 0},
        ],
    )
    one = triple_of(SourceOverTarget(by="rm", correct_by="ok", target="own"), group)
    assert (one.source_chosen_id, one.target_chosen_id, one.rejected_id) == (
        "gemma-1", "own-1", "own-3",
    )  # fmt: skip
    first = triple_of(SourceOverTarget(by=None, correct_by="ok", target="own"), group)
    assert (first.target_chosen_id, first.rejected_id, first.margin) == ("own-1", "own-0", None)
    assert first.reason == "first among right responses"


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ([], "target: no response"),
        ([{"rm": 0.1, "finish": "length"}], "target: no whole response"),
        ([{"rm": "error"}, {"rm": "unscorable"}], "target: no scored response"),
        ([{"rm": 0.1}, {"rm": "error"}], "target: only one scored response"),
        ([{"rm": 0.1, "text": "a"}, {"rm": 0.2, "text": "a"}], "target: identical texts"),
        ([{"rm": 0.1}, {"rm": 0.1}], "target: equal scores"),
    ],
)
def test_a_target_without_a_better_and_a_worse_response_gives_nothing(
    make_group: Any, own: list[Any], reason: str
) -> None:
    group = make_group(gemma=[{"rm": 0.3}], own=own)
    assert reason_of(WRPO, group) == reason


@pytest.mark.parametrize(
    ("gemma", "reason"),
    [
        ([], "no response"),
        ([{"rm": 0.1, "finish": "length"}], "no whole response"),
        ([{"rm": "error"}], "no scored response"),
        ([{"rm": 0.9, "text": "bad"}], "the best response of the sources is the rejected text"),
    ],
)
def test_sources_without_a_response_to_choose_give_nothing(
    make_group: Any, gemma: list[Any], reason: str
) -> None:
    group = make_group(gemma=gemma, own=[{"rm": 0.2}, {"rm": 0.1, "text": "bad"}])
    assert reason_of(WRPO, group) == reason


def test_the_window_is_of_the_targets_own_two_responses(make_group: Any) -> None:
    group = make_group(gemma=[{"rm": 0.9}], own=[{"rm": 0.11}, {"rm": 0.10}])
    assert triple_of(replace_margin(0.01), group).margin == pytest.approx(0.01)
    assert reason_of(replace_margin(0.02), group) == "target: gap below min_margin"
    narrow = SourceOverTarget(by="rm", target="own", max_margin=0.005)
    assert reason_of(narrow, group) == "target: gap above max_margin"


def replace_margin(low: float) -> SourceOverTarget:
    return WRPO.model_copy(update={"min_margin": low})


def test_a_refusal_says_of_every_source_what_it_has(make_group: Any) -> None:
    group = make_group(gemma=[{"rm": 0.3}], qwen=[{"rm": "error"}], own=[{"rm": 0.1}])
    said = WRPO.select(group)
    assert isinstance(said, Refusal)
    assert {name: one["reason"] for name, one in said.details["sources"].items()} == {
        "gemma": "not at fault",
        "qwen": "no scored response",
        "own": "only one scored response",
    }
    assert said.details["left_out"] == {"rm: error (some reason)": 1}


def test_of_one_source_the_triple_has_its_response_as_the_sources_best(make_group: Any) -> None:
    group = make_group(
        gemma=[{"rm": 0.3}], qwen=[{"rm": 0.1}], own=[{"rm": 0.1}, {"rm": 0.2}], llama=[]
    )
    (alone,) = WRPO.of_source(group, "qwen")  # type: ignore[misc]
    assert alone.source_chosen_id == "qwen-0"
    assert WRPO.of_source(group, "own") == WRPO.select(group)
    assert isinstance(WRPO.of_source(group, "llama"), Refusal)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"by": None}, "by"),
        ({"by": None, "correct_by": "ok", "min_margin": 0.1}, "min_margin"),
        ({"by": "rm", "min_margin": 0.2, "max_margin": 0.1}, "min_margin"),
    ],
)
def test_settings_that_nothing_can_follow_are_faults(settings: Any, place: str) -> None:
    found = [key for key, _ in SourceOverTarget(target="own", **settings).faults()]
    assert found == [place]


@given(st.data())
def test_a_triple_is_whole_scored_and_never_of_one_text(any_group: Any, data: Any) -> None:
    group = data.draw(any_group)
    by, correct_by = data.draw(st.sampled_from([("rm", None), ("rm", "ok"), (None, "ok")]))
    said = SourceOverTarget(by=by, correct_by=correct_by, target="qwen").select(group)
    if isinstance(said, Refusal):
        assert said.reason
        return
    (one,) = said
    known = {r.response_id: r for r in group.responses}
    best, better, worse = (
        known[i] for i in (one.source_chosen_id, one.target_chosen_id, one.rejected_id)
    )
    assert best.source != "qwen"
    assert (better.source, worse.source) == ("qwen", "qwen")
    assert all(response.whole for response in (best, better, worse))
    assert worse.text_digest not in (best.text_digest, better.text_digest)
    if by:
        assert one.margin is not None
        assert one.margin > 0
        others = [r for r in group.responses if r.source != "qwen" and r.whole]
        usable = [r for r in others if r.scores["rm"].status == "ok"]
        if correct_by:
            usable = [r for r in usable if r.scores["ok"].value == 1]
        assert one.source_chosen_score == max(r.scores["rm"].value or 0.0 for r in usable)

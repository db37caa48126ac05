"""Math and code pairs: right over wrong, with and without a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.parts import Group, PairChoice, Refusal, load_part
from fusechat.strategies.correct_over_incorrect import CorrectOverIncorrect

MATH = CorrectOverIncorrect(by="rm", correct_by="ok")
CODE = CorrectOverIncorrect(by="rm", correct_by="ok", min_margin=None, max_margin=None)
BARE = CorrectOverIncorrect(by=None, correct_by="ok")


def rows(*judged: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"rm": rm, "ok": ok} for rm, ok in judged]


def picks(strategy: CorrectOverIncorrect, group: Group) -> Sequence[PairChoice]:
    found = strategy.select(group)
    assert not isinstance(found, Refusal), found
    return found


def outcome(strategy: CorrectOverIncorrect, group: Group) -> Any:
    found = strategy.select(group)
    if isinstance(found, Refusal):
        return found.reason
    return [(pair.chosen_id, pair.rejected_id) for pair in found]


def test_highest_right_over_lowest_wrong(make_group: Any) -> None:
    group = make_group(gemma=rows((0.14, 1), (0.15, 1), (0.09, 0), (0.08, 0), (0.20, 0)))
    assert outcome(MATH, group) == [("gemma-1", "gemma-3")]


def test_sources_rank_by_their_best_right_response_not_by_their_best(make_group: Any) -> None:
    group = make_group(gemma=rows((0.30, 0), (0.12, 1), (0.05, 0)), qwen=rows((0.14, 1), (0.1, 0)))
    assert outcome(MATH, group) == [("qwen-0", "qwen-1")]


def test_a_source_that_is_all_right_gives_way_to_the_next(make_group: Any) -> None:
    group = make_group(stored=rows((0.30, 1), (0.2, 1)), qwen=rows((0.14, 1), (0.1, 0)))
    (pair,) = picks(MATH, group)
    assert (pair.chosen_id, pair.reason) == ("qwen-0", "source ranked 2")


@pytest.mark.parametrize(
    ("judged", "math", "code"),
    [
        ([(0.1, 1), (0.2, 0)], "negative gap", "negative gap"),
        ([(0.1, 1), (0.1, 0)], "gap below min_margin", "equal scores"),
        ([(0.105, 1), (0.1, 0)], "gap below min_margin", [("gemma-0", "gemma-1")]),
        ([(0.5, 1), (0.1, 0)], "gap above max_margin", [("gemma-0", "gemma-1")]),
        ([(0.1, 0), (0.2, 0)], "no correct response", "no correct response"),
        ([(0.1, 1), (0.2, 1)], "no incorrect response", "no incorrect response"),
        ([(0.1, 1), (0.2, "error")], "no incorrect response", "no incorrect response"),
        ([(0.1, "unscorable"), (0.2, 0)], "no correct response", "no correct response"),
        ([("error", 1), (0.2, 0)], "no scored correct response", "no scored correct response"),
        ([(0.2, 1), ("error", 0)], "no scored incorrect response", "no scored incorrect response"),
        ([(0.2, "error")], "no scored response", "no scored response"),
    ],
)
def test_each_cause_has_its_own_reason(
    make_group: Any, judged: list[tuple[Any, Any]], math: Any, code: Any
) -> None:
    group = make_group(gemma=rows(*judged))
    assert (outcome(MATH, group), outcome(CODE, group)) == (math, code)


def test_a_wrong_response_may_score_higher_only_where_the_recipe_says_so(make_group: Any) -> None:
    group = make_group(gemma=rows((0.1, 1), (0.2, 0)))
    lax = CODE.model_copy(update={"require_higher_score": False})
    (pair,) = picks(lax, group)
    assert pair.margin == pytest.approx(-0.1)


def test_right_and_wrong_of_different_sources_are_no_pair(make_group: Any) -> None:
    group = make_group(gemma=rows((0.15, 1)), qwen=rows((0.1, 0)))
    assert outcome(MATH, group) == "no incorrect response"


def test_without_a_reward_model_the_first_source_with_both_gives_its_firsts(
    make_group: Any,
) -> None:
    group = make_group(
        gemma=rows((9, 1), (9, 1)),
        mistral=rows((1, "error"), (2, 0), (3, 1), (4, 1), (0, 0)),
        qwen=rows((1, 1), (0, 0)),
    )
    (pair,) = picks(BARE, group)
    assert pair == PairChoice("mistral-2", "mistral-1", None, None, None, "source ranked 2")


def test_without_a_reward_model_identical_texts_still_make_no_pair(make_group: Any) -> None:
    both = [{"ok": 1, "text": "x"}, {"ok": 0, "text": "x"}]
    assert outcome(BARE, make_group(gemma=both)) == "identical texts"


def test_settings_that_need_scores_are_faults_without_a_reward_model() -> None:
    given_window = CorrectOverIncorrect(by=None, correct_by="ok", min_margin=0.01, max_margin=None)
    ((key, message),) = given_window.faults()
    assert key == "min_margin"
    assert message == "0.01 is a gap of scores, but with by: null there are none. Use null."
    nulls = CorrectOverIncorrect(by=None, correct_by="ok", min_margin=None, max_margin=None)
    assert list(nulls.faults()) == list(BARE.faults()) == []
    wide = CorrectOverIncorrect(
        by=None, correct_by="ok", source_choice="max_gap_in_window",
        negative_choice="lowest_within_window",
    )  # fmt: skip
    assert [key for key, _ in wide.faults()] == ["source_choice", "negative_choice"]


def test_it_reads_both_annotators() -> None:
    part = load_part(
        "strategies", {"use": "correct_over_incorrect", "by": "armorm", "correct_by": "math"}
    )
    assert isinstance(part, CorrectOverIncorrect)
    assert part.annotators() == ("armorm", "math")
    assert BARE.annotators() == ("ok",)


# The oracle walks the pseudo-code of the method line by line with plain loops.
def oracle(group: Group, low: float | None, high: float | None) -> tuple[str, str] | None:
    sides: dict[str, tuple[list[Any], list[Any]]] = {s: ([], []) for s in group.sources}
    for r in group.responses:
        rm, ok = r.scores["rm"], r.scores["ok"]
        if r.whole and rm.status == ok.status == "ok":
            sides[r.source][0 if ok.value == 1 else 1].append((rm.value, r.index, r))
    candidates = []
    for source, (right, wrong) in sides.items():
        if not right or not wrong:
            continue
        top = max(value for value, _, _ in right)
        bottom = min(value for value, _, _ in wrong)
        _, c = min((i, r.response_id) for v, i, r in right if v == top)
        _, n = min((i, r.response_id) for v, i, r in wrong if v == bottom)
        texts = {r.response_id: r.text_digest for r in group.responses}
        hundredths = round((top - bottom) * 100)
        fits = hundredths > 0 and (low is None or low * 100 - 0.1 < hundredths)
        fits = fits and (high is None or hundredths < high * 100 + 0.1)
        if fits and texts[c] != texts[n]:
            candidates.append((-top, group.sources.index(source), (c, n)))
    return min(candidates)[2] if candidates else None


@given(data=st.data(), strategy=st.sampled_from([MATH, CODE]))
def test_the_pair_agrees_with_the_methods_pseudo_code(
    any_group: st.SearchStrategy[Group], data: st.DataObject, strategy: CorrectOverIncorrect
) -> None:
    group = data.draw(any_group)
    found = strategy.select(group)
    got = None if isinstance(found, Refusal) else (found[0].chosen_id, found[0].rejected_id)
    assert got == oracle(group, strategy.min_margin, strategy.max_margin)


any_settings = st.builds(
    CorrectOverIncorrect,
    by=st.sampled_from(["rm", None]),
    correct_by=st.just("ok"),
    min_margin=st.sampled_from([None, 0.01]),
    max_margin=st.sampled_from([None, 0.1]),
    pairs_per_prompt=st.sampled_from([1, "per_source"]),
    source_choice=st.sampled_from(["global_max", "random", "round_robin"]),
    fallback=st.booleans(),
    require_higher_score=st.booleans(),
)


@given(data=st.data(), strategy=any_settings)
def test_chosen_is_right_and_rejected_is_wrong_and_order_is_blind(
    any_group: st.SearchStrategy[Group], data: st.DataObject, strategy: CorrectOverIncorrect
) -> None:
    group = data.draw(any_group)
    found = strategy.select(group)
    mixed = replace(group, responses=tuple(data.draw(st.permutations(group.responses))))
    assert strategy.select(mixed) == found
    seen = {r.response_id: r for r in group.responses}
    for pair in () if isinstance(found, Refusal) else found:
        chosen, rejected = seen[pair.chosen_id], seen[pair.rejected_id]
        assert chosen.scores["ok"].value == 1
        assert rejected.scores["ok"].value in (0, 0.5)
        assert chosen.whole
        assert rejected.whole
        assert chosen.source == rejected.source
        assert chosen.text_digest != rejected.text_digest
        assert (pair.margin is None) == (strategy.by is None)


def test_most_correct_takes_the_pair_of_the_source_that_is_right_more_often(
    make_group: Any,
) -> None:
    """gemma is right in 1 of 3, qwen in 2 of 3; llama in 2 of 2, but has nothing to reject."""
    group = make_group(
        gemma=[{"ok": 1}, {"ok": 0}, {"ok": 0}],
        qwen=[{"ok": 0}, {"ok": 1}, {"ok": 1}],
        llama=[{"ok": 1}, {"ok": 1}],
    )
    settings = {"use": "correct_over_incorrect", "by": None, "correct_by": "ok",
                "min_margin": None, "max_margin": None}  # fmt: skip

    def chosen(**more: Any) -> str:
        strategy = load_part("strategies", settings | more)
        (pair,) = strategy.select(group)  # type: ignore[attr-defined]
        return f"{pair.chosen_id} over {pair.rejected_id}"

    assert chosen() == "gemma-0 over gemma-1"
    assert chosen(source_choice="most_correct") == "qwen-1 over qwen-0"


def test_most_correct_is_a_fault_where_no_verdicts_are_read() -> None:
    part = load_part(
        "strategies", {"use": "same_source_margin", "by": "rm", "source_choice": "most_correct"}
    )
    assert [key for key, _ in part.faults()] == ["source_choice"]

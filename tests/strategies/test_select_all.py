"""`select_all` says of many prompts what `select` says of each, in every setting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.groups import select_each
from fusechat.parts import Group, Groups, Judged, Refusal, Seen, Selection, Strategy
from fusechat.strategies.all_sources import AllSources
from fusechat.strategies.best_of import BestOf
from fusechat.strategies.correct_over_incorrect import CorrectOverIncorrect
from fusechat.strategies.cross_source_correct import CrossSourceCorrect
from fusechat.strategies.cross_source_margin import CrossSourceMargin
from fusechat.strategies.each_source_margin import EachSourceMargin
from fusechat.strategies.same_source_margin import SameSourceMargin
from fusechat.strategies.source_over_target import SourceOverTarget

SOURCES = ("gemma", "mistral", "qwen")
# A grid whose gaps are the ends of the windows below, and numbers a hair beside it.
GRID = [0.0, 0.01, 0.02, 0.05, 0.1, 0.11, 0.2]
NEAR = [0.1 + 1e-9, 0.1 - 1e-9, 0.11 + 1e-8, 0.01 + 3e-8, -0.05, -0.0, 1e300, -1e300, 3e-46]
ENDS = st.sampled_from([None, None, -0.05, 0.0, 0.01, 0.05, 0.1, 0.11, 1e300])


def judged(value: Any) -> Judged | None:
    if value is None:
        return None
    return Judged(value, None, "why") if isinstance(value, str) else Judged("ok", value)


def seen(number: int, source: str, index: int, row: Any) -> Seen:
    rm, ok, finish, text = row
    scores = {"rm": judged(rm), "ok": judged(ok)}
    return Seen(
        response_id=f"{number}-{source}-{index}",
        source=source,
        index=index,
        finish=finish,
        whole=finish in ("stop", "unknown") and bool(text),
        text_digest=text,
        tokens=None,
        scores={name: score for name, score in scores.items() if score is not None},
    )


rows = st.lists(
    st.tuples(
        st.sampled_from([*GRID, *GRID, *NEAR, math.nan, math.inf, "unscorable", "error", None]),
        st.sampled_from([0.0, 1.0, 1.0, 0.5, math.nan, "unscorable", "error", None]),
        st.sampled_from(["stop", "stop", "stop", "unknown", "length", "error"]),
        st.sampled_from(["a", "b", "c", "d", ""]),
    ),
    max_size=4,
)
responses = st.fixed_dictionaries(dict.fromkeys(SOURCES, rows))


def group(number: int, found: dict[str, list[Any]]) -> Group:
    all_ = tuple(
        seen(number, source, index, row)
        for source, own in found.items()
        for index, row in enumerate(own)
    )
    return Group(f"p{number}", "any", SOURCES, all_)


some_groups = st.lists(responses, max_size=4).map(
    lambda found: [group(number, one) for number, one in enumerate(found)]
)
pair_settings = {
    "min_margin": ENDS,
    "max_margin": ENDS,
    "pairs_per_prompt": st.sampled_from([1, "per_source"]),
    "source_choice": st.sampled_from(
        ["global_max", "max_gap_in_window", "most_correct", "random", "round_robin"]
    ),
    "fallback": st.booleans(),
    "negative_choice": st.sampled_from(["min_only", "lowest_within_window"]),
    "seed": st.integers(0, 3),
}
strategies = st.one_of(
    st.builds(SameSourceMargin, by=st.just("rm"), **pair_settings),
    st.builds(
        CorrectOverIncorrect,
        by=st.sampled_from(["rm", "rm", None]),
        correct_by=st.sampled_from(["ok", "ok", "missing"]),
        require_higher_score=st.booleans(),
        **pair_settings,
    ),
    st.builds(
        CrossSourceMargin, by=st.just("rm"), on_same_source_prompts=st.booleans(), **pair_settings
    ),
    st.builds(
        CrossSourceCorrect,
        by=st.sampled_from(["rm", None]),
        correct_by=st.sampled_from(["ok", "ok", "ok", "missing"]),
        require_higher_score=st.booleans(),
        on_same_source_prompts=st.booleans(),
        **pair_settings,
    ),
    st.builds(
        EachSourceMargin,
        by=st.sampled_from(["rm", "rm", None]),
        correct_by=st.sampled_from([None, "ok", "ok"]),
        temperature=st.sampled_from([0.01, 1.0]),
        **{
            name: pair_settings[name]
            for name in ("min_margin", "max_margin", "negative_choice")
            if name in pair_settings
        },
    ),
    st.builds(
        AllSources,
        by=st.sampled_from(["rm", "rm", None]),
        correct_by=st.sampled_from([None, "ok"]),
        temperature=st.sampled_from([0.01, 1.0]),
    ),
    st.builds(
        SourceOverTarget,
        by=st.sampled_from(["rm", "rm", None]),
        correct_by=st.sampled_from([None, "ok"]),
        target=st.sampled_from(["qwen", "qwen", "nobody"]),
        min_margin=st.sampled_from([None, 0.01]),
    ),
    st.builds(
        BestOf,
        by=st.sampled_from(["rm", "rm", None]),
        correct_by=st.sampled_from([None, "ok"]),
        responses_per_prompt=st.sampled_from([1, "per_source"]),
        ties=st.sampled_from(["source_order", "most_correct", "random"]),
        seed=st.integers(0, 3),
    ),
)


def plain(said: Selection) -> dict[str, Any]:
    """The same with the words in place of their numbers, and None in place of nan."""

    def words(codes: Any, known: tuple[str, ...]) -> Any:
        return [known[c] if c >= 0 else int(c) for c in np.asarray(codes).ravel()]

    def numbers(values: Any) -> Any:
        return [None if math.isnan(v) else v for v in np.asarray(values).ravel().tolist()]

    return {
        **{name: getattr(said, name).tolist() for name in ("prompt", "row", "other")},
        **{
            name: numbers(getattr(said, name))
            for name in ("score", "other_score", "margin", "gap", "best")
        },
        "weights": said.weights.round(12).tolist(),
        "seconds": said.seconds.tolist(),
        "second_scores": numbers(said.second_scores),
        "why": words(said.why, said.reasons),
        "refusal": words(said.refusal, said.refusals),
        "by_source": words(said.by_source, said.refusals),
        "shapes": [said.gap.shape, said.best.shape, said.by_source.shape, said.refusal.shape],
        "kinds": {name: getattr(said, name).dtype for name in ("prompt", "row", "other", "score")},
    }


@settings(max_examples=500, deadline=None)
@given(some_groups, strategies)
def test_all_at_once_is_each_by_itself(found: list[Group], strategy: Strategy) -> None:
    groups = Groups.of(found)
    assert plain(strategy.select_all(groups)) == plain(select_each(strategy, groups))


@settings(max_examples=150, deadline=None)
@given(some_groups, strategies)
def test_the_details_of_refusals_are_those_of_select(
    found: list[Group], strategy: Strategy
) -> None:
    groups = Groups.of(found)
    said = strategy.select_all(groups)
    refused = np.flatnonzero(said.refusal >= 0).tolist()
    details = strategy.refusal_details(groups, said, refused)
    for number, own in zip(refused, details, strict=True):
        alone = strategy.select(groups.group(number))
        assert isinstance(alone, Refusal)
        assert own == alone.details


def test_two_responses_of_one_sample_index_are_told_apart_by_their_ids() -> None:
    twice = [seen(0, "gemma", 0, (0.1, 1.0, "stop", text)) for text in "ab"]
    found = [Seen(**{**vars(r), "response_id": name}) for r, name in zip(twice, "zy", strict=True)]
    low = seen(0, "gemma", 1, (0.05, 0.0, "stop", "c"))
    groups = Groups.of([Group("p", "any", SOURCES, (*found, low))])
    strategy = SameSourceMargin(by="rm")
    said = strategy.select_all(groups)
    assert str(groups.columns["id"][said.row[0]]) == "y"
    assert plain(said) == plain(select_each(strategy, groups))


def test_the_ends_of_the_window_are_inside_in_float32() -> None:
    # 0.11 - 0.10 is 0.00999999999999999 in float64, and 0.01 in float32.
    row = [(0.11, None, "stop", "a"), (0.10, None, "stop", "b")]
    groups = Groups.of([group(0, {"gemma": row})])
    for low, high in ((0.01, 0.1), (None, 0.01), (0.01, 0.01)):
        said = SameSourceMargin(by="rm", min_margin=low, max_margin=high).select_all(groups)
        assert said.row.tolist() == [0]
    said = SameSourceMargin(by="rm", min_margin=0.01001).select_all(groups)
    assert said.refusals[said.refusal[0]] == "gap below min_margin"


@pytest.mark.parametrize("prompts", [0, 1])
def test_no_prompts_or_no_responses_give_no_picks(prompts: int) -> None:
    groups = Groups.of([group(n, {}) for n in range(prompts)])
    for strategy in (SameSourceMargin(by="rm"), BestOf(by=None)):
        said = strategy.select_all(groups)
        assert len(said.prompt) == 0
        assert [said.refusals[code] for code in said.refusal] == ["no response"] * prompts

"""Groups: the same responses as rows and as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.errors import PartError
from fusechat.groups import ABSENT, PICKED, select_each
from fusechat.parts import Choice, Group, Groups, Judged, Refusal, Seen, Strategy

SOURCES = ("a", "b", "c")
judged = st.one_of(
    st.floats(allow_nan=False, width=32).map(lambda v: Judged("ok", v, "")),
    st.sampled_from([Judged("unscorable", None, "no gold"), Judged("error", None, "it died")]),
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "finish": st.sampled_from(["stop", "length", "error", "unknown"]),
            "whole": st.booleans(),
            "text_digest": st.sampled_from(["0123456789abcdef", "fedcba9876543210"]),
            "tokens": st.sampled_from([None, 0, 7]),
            "scores": st.dictionaries(st.sampled_from(["rm", "ok"]), judged),
        }
    ),
    max_size=3,
)


def group(number: int, found: dict[str, list[dict[str, object]]]) -> Group:
    responses = tuple(
        Seen(f"{number}{source}{index}", source, index, **row)  # type: ignore[arg-type]
        for source in SOURCES
        for index, row in enumerate(found[source])
    )
    return Group(f"p{number}", "any", SOURCES, responses)


some = st.lists(st.fixed_dictionaries(dict.fromkeys(SOURCES, rows)), max_size=4).map(
    lambda found: [group(number, one) for number, one in enumerate(found)]
)


def as_rows(groups: Groups) -> list[Group]:
    return [groups.group(number) for number in range(len(groups.prompt_ids))]


@settings(max_examples=100, deadline=None)
@given(some)
def test_columns_give_back_the_rows_that_they_were_made_of(found: list[Group]) -> None:
    assert as_rows(Groups.of(found)) == found


@settings(max_examples=100, deadline=None)
@given(some, st.data(), st.sets(st.sampled_from(SOURCES)))
def test_taking_prompts_and_sources_is_taking_them_from_the_rows(
    found: list[Group], data: st.DataObject, sources: set[str]
) -> None:
    order = data.draw(st.lists(st.sampled_from(range(len(found))), unique=True) if found else
                      st.just([]))  # fmt: skip
    taken = Groups.of(found).take(order, sources)
    kept = tuple(source for source in SOURCES if source in sources)
    wanted = [
        replace(
            found[place],
            sources=kept,
            responses=tuple(r for r in found[place].responses if r.source in sources),
        )
        for place in order
    ]
    if found:  # of no group at all the sources are not known
        assert as_rows(taken) == wanted


def test_groups_of_different_sources_are_refused() -> None:
    groups = [Group("p", "any", ("a",), ()), Group("q", "any", ("b",), ())]
    with pytest.raises(ValueError, match="different sources"):
        Groups.of(groups)


class FirstOfTwo(Strategy):
    """The first response, where there are two."""

    emits: ClassVar[Literal["Demonstration", "Pair"]] = "Demonstration"

    def select(self, group: Group) -> Sequence[Choice] | Refusal:
        if len(group.responses) < 2:
            return Refusal("too few")
        return [Choice(group.responses[0].response_id, 0.5, "first")]


def test_a_users_strategy_is_asked_of_each_prompt_and_of_each_source_alone() -> None:
    row: dict[str, object] = {"finish": "stop", "whole": True, "text_digest": "", "tokens": 1}
    groups = Groups.of([
        group(0, {"a": [row, row], "b": [row], "c": []}),
        group(1, {"a": [], "b": [row], "c": []}),
    ])  # fmt: skip
    said = FirstOfTwo().select_all(groups)
    assert said.prompt.tolist() == [0]
    assert (said.row.tolist(), said.other.tolist()) == ([0], [-1])
    assert said.refusal.tolist() == [PICKED, said.refusals.index("too few")]
    few = said.refusals.index("too few")
    assert said.by_source.tolist() == [[PICKED, few, ABSENT], [ABSENT, few, ABSENT]]
    assert np.isnan(said.gap).all()
    assert said.best[0, 0] == 0.5


class Silent(Strategy):
    """Says nothing at all."""

    emits: ClassVar[Literal["Demonstration", "Pair"]] = "Demonstration"

    def select(self, group: Group) -> Sequence[Choice]:
        return []


def test_a_strategy_that_says_nothing_is_named() -> None:
    groups = Groups.of([Group("p", "any", SOURCES, ())])
    with pytest.raises(PartError, match=r"test_groups:Silent' gave nothing for prompt p"):
        select_each(Silent(), groups)

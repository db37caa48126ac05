"""Split rules: FuseChat-3.0's own counts, and each rule worked by hand."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fusechat.digests import digest
from fusechat.parts import settings_key
from fusechat.stages.split import Item, Items, Place, SplitRule, _draws, disposition


def rule_of(**settings: Any) -> Any:
    return TypeAdapter(SplitRule).validate_python(settings)


def items(count: int, origin: str = "a", pair: bool = True, response: bool = True) -> list[Item]:
    return [Item(f"{origin}{pair:d}{response:d}-{n}", origin, response, pair) for n in range(count)]


def where(places: dict[str, Place]) -> tuple[int, int, int, int]:
    count = disposition(places)
    return count["sft"], count["dpo"], count["both"], count["dropped"]


@pytest.mark.parametrize(
    ("count", "sft", "dpo"), [(51098, 20439, 30659), (20374, 8149, 12225), (9435, 3774, 5661)]
)
@pytest.mark.parametrize("rule", ["filter_then_share", "split_then_filter"])
def test_the_published_counts_of_each_chat_set_come_out(
    rule: str, count: int, sft: int, dpo: int
) -> None:
    assert where(rule_of(rule=rule).place(items(count))) == (sft, dpo, 0, 0)


def test_the_share_holds_in_each_prompt_set_and_is_floored_there() -> None:
    # floor(0.4 x 7) = 2 in each of two sets; over the whole domain floor(0.4 x 14) = 5.
    mixed = [*items(7, "a"), *items(7, "b")]
    assert where(rule_of(rule="filter_then_share").place(mixed)) == (4, 10, 0, 0)
    assert where(rule_of(rule="filter_then_share", per="domain").place(mixed)) == (5, 9, 0, 0)
    nearest = rule_of(rule="filter_then_share", rounding="nearest")
    assert where(nearest.place(mixed)) == (6, 8, 0, 0)  # 2.8 -> 3 in each


def test_filter_then_share_takes_the_share_of_what_the_filter_leaves() -> None:
    mixed = [*items(10), *items(10, pair=False), *items(5, response=False)]
    places = rule_of(rule="filter_then_share").place(mixed)
    assert where(places) == (4, 6, 0, 15)
    assert all(places[i.prompt_id].blame == "dpo" for i in mixed if not i.has_pair)
    assert all(places[i.prompt_id].blame == "sft" for i in mixed if not i.has_response)


def test_split_then_filter_loses_dpo_prompts_after_the_split() -> None:
    # 10 of 20 without a pair: the SFT part of 8 is whole, the DPO part of 12 is not.
    mixed = [*items(10), *items(10, pair=False)]
    sft, dpo, both, dropped = where(rule_of(rule="split_then_filter").place(mixed))
    assert (sft, both) == (8, 0)
    assert dpo + dropped == 12
    assert 0 < dropped < 12
    moved = rule_of(rule="split_then_filter", no_pair_to_sft=True).place(mixed)
    assert where(moved) == (8 + dropped, dpo, 0, 0)


def test_no_pair_to_sft_fills_the_sft_share_first() -> None:
    rule = rule_of(rule="filter_then_share", no_pair_to_sft=True)
    # floor(0.4 x 20) = 8: 5 without a pair and 3 drawn.
    assert where(rule.place([*items(15), *items(5, pair=False)])) == (8, 12, 0, 0)
    # More prompts without a pair than the share holds: they stay in SFT, all pairs in DPO.
    assert where(rule.place([*items(5), *items(15, pair=False)])) == (15, 5, 0, 0)


def test_sequential_takes_the_first_prompts_and_shuffle_does_not() -> None:
    members = items(20)
    first = rule_of(rule="filter_then_share", order="sequential").place(members)
    assert [first[i.prompt_id].sft for i in members] == [True] * 8 + [False] * 12
    drawn = rule_of(rule="filter_then_share").place(members)
    assert [drawn[i.prompt_id].sft for i in members] != [True] * 8 + [False] * 12


@given(st.integers(), st.lists(st.text()))
def test_a_draw_is_the_digest_of_seed_and_id(seed: int, ids: list[str]) -> None:
    # As earlier versions drew, so that a split stays what it was.
    none = np.zeros(len(ids), np.bool_)
    draws = _draws(seed, Items(np.array(ids, object), none, none, none))
    assert [one.decode() for one in draws] == [digest([seed, one]) for one in ids]


def test_another_seed_draws_other_prompts() -> None:
    one, two = (rule_of(rule="filter_then_share", seed=s).place(items(30)) for s in (1, 2))
    assert one != two
    assert where(one) == where(two)


@given(seed=st.integers(0, 99), count=st.integers(0, 40), order=st.randoms())
def test_a_shuffled_split_does_not_depend_on_the_order_of_prompts(
    seed: int, count: int, order: random.Random
) -> None:
    rule = rule_of(rule="filter_then_share", seed=seed)
    members = items(count)
    mixed = list(members)
    order.shuffle(mixed)
    assert rule.place(members) == rule.place(mixed)


def test_pair_else_sft_gives_pairs_to_dpo_and_the_rest_to_sft() -> None:
    mixed = [*items(3), *items(4, pair=False), *items(2, pair=False, response=False)]
    assert where(rule_of(rule="pair_else_sft").place(mixed)) == (4, 3, 0, 2)


def test_allow_overlap_gives_a_pairs_prompt_to_sft_as_well() -> None:
    mixed = [*items(3), *items(4, pair=False), *items(2, pair=False, response=False)]
    assert where(rule_of(rule="pair_else_sft", allow_overlap=True).place(mixed)) == (7, 3, 3, 2)


def test_the_cap_on_pairs_counts_used_prompts_and_sends_the_surplus_to_sft() -> None:
    # 10 used prompts, cap 0.25: floor(2.5) = 2 pairs; 4 surplus pairs go to SFT.
    mixed = [*items(6), *items(4, pair=False), *items(5, pair=False, response=False)]
    assert where(rule_of(rule="pair_else_sft", dpo_fraction=0.25).place(mixed)) == (8, 2, 0, 5)
    assert where(rule_of(rule="pair_else_sft", dpo_fraction=1.0).place(mixed)) == (4, 6, 0, 5)


def test_a_share_is_a_decimal_number_not_its_binary_neighbour() -> None:
    # In binary, 0.3 is a little less than 0.3, and its product with 10 would be floored to 2.
    assert where(rule_of(rule="filter_then_share", sft_share=0.3).place(items(10))) == (3, 7, 0, 0)


def test_the_cap_keeps_the_pairs_that_could_not_go_to_sft() -> None:
    lone = items(3, response=False)
    places = rule_of(rule="pair_else_sft", dpo_fraction=0.5).place([*items(5), *lone])
    assert where(places) == (4, 4, 0, 0)
    assert all(places[item.prompt_id].dpo for item in lone)


def test_the_published_share_of_math_pairs_comes_out_of_the_cap() -> None:
    # 51,803 used prompts, 11,615 pairs: 22.4 %.
    places = rule_of(rule="pair_else_sft", dpo_fraction=0.22422).place(items(51803))
    assert where(places) == (51803 - 11615, 11615, 0, 0)


def test_sft_only_never_makes_a_pair_and_dpo_only_makes_nothing_else() -> None:
    mixed = [*items(3), *items(2, pair=False), *items(1, response=False)]
    assert where(rule_of(rule="sft_only").place(mixed)) == (5, 0, 0, 1)
    assert where(rule_of(rule="dpo_only").place(mixed)) == (0, 4, 0, 2)


any_rule = st.one_of(
    st.builds(
        lambda kind, **settings: rule_of(rule=kind, **settings),
        kind=st.sampled_from(["filter_then_share", "split_then_filter"]),
        sft_share=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
        rounding=st.sampled_from(["floor", "nearest"]),
        no_pair_to_sft=st.booleans(),
        per=st.sampled_from(["origin", "domain"]),
        order=st.sampled_from(["shuffle", "sequential"]),
    ),
    st.builds(
        lambda **settings: rule_of(rule="pair_else_sft", **settings),
        dpo_fraction=st.sampled_from([None, 0.0, 0.3, 1.0]),
        allow_overlap=st.booleans(),
    ),
    st.sampled_from([rule_of(rule="sft_only"), rule_of(rule="dpo_only")]),
)
any_items = st.lists(
    st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=30
).map(lambda rows: [Item(f"p{n}", *row) for n, row in enumerate(rows)])


@given(rule=any_rule, members=any_items)
def test_every_prompt_has_one_place_and_gets_only_what_it_has(
    rule: Any, members: list[Item]
) -> None:
    places = rule.place(members)
    assert set(places) == {item.prompt_id for item in members}
    for item in members:
        place = places[item.prompt_id]
        assert item.has_response or not place.sft
        assert item.has_pair or not place.dpo
        assert (place.blame == "") == (place.sft or place.dpo)
        assert not (place.sft and place.dpo) or getattr(rule, "allow_overlap", False)
        # The blamed strategy did refuse, so that its reason can be given.
        assert place.blame != "sft" or not item.has_response
        assert place.blame != "dpo" or not item.has_pair


def test_each_rule_has_its_own_settings_and_its_own_key() -> None:
    with pytest.raises(ValidationError, match="sft_share"):
        rule_of(rule="sft_only", sft_share=0.4)
    with pytest.raises(ValidationError, match="allow_overlap"):
        rule_of(rule="filter_then_share", allow_overlap=True)
    with pytest.raises(ValidationError, match="filter_then_share"):
        rule_of(rule="filter_then_shares")
    kinds = ("filter_then_share", "split_then_filter", "pair_else_sft", "sft_only", "dpo_only")
    assert len({str(settings_key(rule_of(rule=kind))) for kind in kinds}) == len(kinds)
    plain, written = rule_of(rule="filter_then_share"), rule_of(rule="filter_then_share", seed=42)
    assert settings_key(plain) == settings_key(written)

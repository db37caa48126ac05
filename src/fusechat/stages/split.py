"""Split rules: which prompt goes to SFT, which to DPO, which gives nothing. Pure.

Whether a prompt *has* a response to imitate and a pair is decided before, by the
strategies; a rule only places prompts. Every prompt gets exactly one place, except where
`allow_overlap` says otherwise.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from fusechat.digests import digest


@dataclass(frozen=True)
class Item:
    """What a rule knows of a prompt."""

    prompt_id: str
    origin: str
    """The prompt set that it comes from; shares hold within each."""
    has_response: bool
    """The SFT strategy picked a response."""
    has_pair: bool
    """The DPO strategy picked a pair."""


@dataclass(frozen=True)
class Place:
    """Where a prompt goes; to neither means dropped, and `blame` has the reason why."""

    sft: bool = False
    dpo: bool = False
    blame: Literal["", "sft", "dpo"] = ""
    """The strategy whose refusal is the reason for the drop."""


SFT, DPO, BOTH = Place(sft=True), Place(dpo=True), Place(sft=True, dpo=True)
NO_RESPONSE, NO_PAIR = Place(blame="sft"), Place(blame="dpo")
Places = dict[str, Place]


class Rule(BaseModel):
    """Base of the split rules."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asks: ClassVar[tuple[str, ...]]
    """Which strategies the rule needs: `sft`, `dpo`."""

    def place(self, items: Sequence[Item]) -> Places:
        """The place of every prompt of one domain, given in prompt-table order."""
        raise NotImplementedError


class _Drawn(Rule):
    """Base of the rules that draw prompts, set by set."""

    per: Literal["origin", "domain"] = "origin"
    """Whether a share holds in each prompt set (FuseChat-3.0's counts) or in the whole domain."""
    order: Literal["shuffle", "sequential"] = "shuffle"
    """`shuffle`: prompts in an order drawn by `seed` and their ids, so that it does not depend on
    which other prompts there are; `sequential`: as in the prompt table."""
    seed: int = 42
    """Of `order: shuffle`."""

    def place(self, items: Sequence[Item]) -> Places:
        """The places of the prompts of each set, one set after the other."""
        places: Places = {}
        for members in self._sets(items):
            places.update(self._place_set(members))
        return places

    def _place_set(self, members: Sequence[Item]) -> Places:
        raise NotImplementedError

    def _sets(self, items: Sequence[Item]) -> list[list[Item]]:
        sets: dict[str, list[Item]] = defaultdict(list)
        for item in items:
            sets[item.origin if self.per == "origin" else ""].append(item)
        return list(sets.values())

    def _drawn(self, items: Iterable[Item]) -> list[Item]:
        if self.order == "sequential":
            return list(items)
        return sorted(items, key=lambda item: (digest([self.seed, item.prompt_id]), item.prompt_id))


class _Shared(_Drawn):
    """Settings of the rules that give a fixed share of the prompts to SFT."""

    asks: ClassVar[tuple[str, ...]] = ("sft", "dpo")

    sft_share: float = Field(default=0.4, ge=0, le=1)
    """Share of the prompts that go to SFT; FuseChat-3.0: 4 to 6."""
    rounding: Literal["floor", "nearest"] = "floor"
    """How share times number of prompts becomes a whole number."""
    no_pair_to_sft: bool = False
    """Whether a prompt without a pair goes to SFT rather than being dropped."""

    def _sft_count(self, count: int) -> int:
        exact = share_of(self.sft_share, count)
        return math.floor(exact + Fraction(1, 2) if self.rounding == "nearest" else exact)


class FilterThenShare(_Shared):
    """Drop prompts without a pair, then give a share of the rest to SFT (FuseChat-3.0, chat).

    The share is of the prompts left in each set. With `no_pair_to_sft`, prompts without a pair
    fill it first, and it is of all of them.
    """

    rule: Literal["filter_then_share"]

    def _place_set(self, members: Sequence[Item]) -> Places:
        places: Places = {}
        both = [item for item in members if item.has_pair and item.has_response]
        only_sft = []
        for item in members:
            if item.has_pair:
                places[item.prompt_id] = NO_RESPONSE
            elif item.has_response and self.no_pair_to_sft:
                only_sft.append(item)
                places[item.prompt_id] = SFT
            else:
                places[item.prompt_id] = NO_PAIR
        count = max(0, self._sft_count(len(both) + len(only_sft)) - len(only_sft))
        for number, item in enumerate(self._drawn(both)):
            places[item.prompt_id] = SFT if number < count else DPO
        return places


class SplitThenFilter(_Shared):
    """Give a share of all prompts to SFT, then drop those that give nothing in their part.

    The share is of all prompts of each set; the others are the DPO part.
    """

    rule: Literal["split_then_filter"]

    def _place_set(self, members: Sequence[Item]) -> Places:
        count = self._sft_count(len(members))
        return {
            item.prompt_id: self._place_one(item, number < count)
            for number, item in enumerate(self._drawn(members))
        }

    def _place_one(self, item: Item, to_sft: bool) -> Place:
        if to_sft:
            return SFT if item.has_response else NO_RESPONSE
        if item.has_pair:
            return DPO
        return SFT if self.no_pair_to_sft and item.has_response else NO_PAIR


class PairElseSft(_Drawn):
    """A pair goes to DPO, a response without one to SFT, the rest is dropped (math and code)."""

    asks: ClassVar[tuple[str, ...]] = ("sft", "dpo")

    rule: Literal["pair_else_sft"]
    dpo_fraction: float | None = Field(default=None, ge=0, le=1)
    """Greatest share of the used prompts that may go to DPO; the surplus goes to SFT. 0.224 is
    the share that FuseChat-3.0 publishes for math; null: no cap."""
    allow_overlap: bool = False
    """Whether a prompt that gives a pair also gives an SFT row."""

    def _place_set(self, members: Sequence[Item]) -> Places:
        pairs = [item for item in members if item.has_pair]
        used = sum(item.has_pair or item.has_response for item in members)
        if self.dpo_fraction is not None:
            # A pair without an SFT response cannot go to SFT, so it stays first.
            drawn = sorted(self._drawn(pairs), key=lambda item: item.has_response)
            pairs = drawn[: math.floor(share_of(self.dpo_fraction, used))]
        to_dpo = {item.prompt_id for item in pairs}
        return {item.prompt_id: self._place_one(item, to_dpo) for item in members}

    def _place_one(self, item: Item, to_dpo: set[str]) -> Place:
        if item.prompt_id in to_dpo:
            return BOTH if self.allow_overlap and item.has_response else DPO
        return SFT if item.has_response else NO_RESPONSE


class SftOnly(Rule):
    """Every prompt that gives a response goes to SFT (Chinese: no reward model suits it)."""

    asks: ClassVar[tuple[str, ...]] = ("sft",)

    rule: Literal["sft_only"]

    def place(self, items: Sequence[Item]) -> Places:
        """SFT or dropped."""
        return {item.prompt_id: SFT if item.has_response else NO_RESPONSE for item in items}


class DpoOnly(Rule):
    """Every prompt that gives a pair goes to DPO; there is no SFT part."""

    asks: ClassVar[tuple[str, ...]] = ("dpo",)

    rule: Literal["dpo_only"]

    def place(self, items: Sequence[Item]) -> Places:
        """DPO or dropped."""
        return {item.prompt_id: DPO if item.has_pair else NO_PAIR for item in items}


SplitRule = Annotated[
    FilterThenShare | SplitThenFilter | PairElseSft | SftOnly | DpoOnly, Field(discriminator="rule")
]


def share_of(share: float, count: int) -> Fraction:
    """`share` x `count`, exact in decimals: 0.4 of 9,435 is 3,774, whatever binary 0.4 is."""
    return Fraction(str(share)) * count


def disposition(places: Mapping[str, Place]) -> dict[str, int]:
    """How many prompts went where."""
    return {
        "sft": sum(p.sft for p in places.values()),
        "dpo": sum(p.dpo for p in places.values()),
        "both": sum(p.sft and p.dpo for p in places.values()),
        "dropped": sum(not (p.sft or p.dpo) for p in places.values()),
    }

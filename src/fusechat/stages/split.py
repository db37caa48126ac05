"""Split rules: which prompt goes to SFT, which to DPO, which gives nothing. Pure.

Whether a prompt *has* a response to imitate and a pair is decided before, by the
strategies; a rule only places prompts. Every prompt gets exactly one place, except where
`allow_overlap` says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fusechat.digests import DIGEST_LENGTH, canonical_json, digest_bytes
from fusechat.groups import Array

BLAMED: tuple[Literal["", "sft", "dpo"], ...] = ("", "sft", "dpo")
NO_RESPONSE, NO_PAIR = 1, 2
"""Positions in `BLAMED`."""


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


@dataclass(frozen=True)
class Items:
    """What a rule knows of many prompts, in prompt-table order; `[prompts]` each."""

    prompt_id: Array
    """Text, as objects or bytes (`S`)."""
    origin: Array
    """A number for each prompt set, in any order."""
    has_response: Array
    has_pair: Array

    def __len__(self) -> int:
        return len(self.prompt_id)

    def texts(self) -> Iterator[str]:
        """The ids as texts, one by one."""
        for one in self.prompt_id:
            yield one.decode() if isinstance(one, bytes) else one

    def take(self, at: Array) -> Items:
        """Those at some positions."""
        return Items(self.prompt_id[at], self.origin[at], self.has_response[at], self.has_pair[at])


@dataclass(frozen=True)
class Placed:
    """Where many prompts go; `[prompts]` each."""

    sft: Array
    """bool"""
    dpo: Array
    """bool"""
    blame: Array
    """Position in `BLAMED`, int8."""

    @classmethod
    def nowhere(cls, count: int) -> Placed:
        """None of them anywhere yet."""
        return cls(*(np.zeros(count, kind) for kind in (np.bool_, np.bool_, np.int8)))

    def put(self, at: Array, other: Placed) -> None:
        """Take over the places of the prompts at some positions."""
        self.sft[at], self.dpo[at], self.blame[at] = other.sft, other.dpo, other.blame


Places = dict[str, Place]


class Rule(BaseModel):
    """Base of the split rules."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asks: ClassVar[tuple[str, ...]]
    """Which strategies the rule needs: `sft`, `dpo`."""

    def place(self, items: Sequence[Item]) -> Places:
        """The place of every prompt of one domain, given in prompt-table order."""
        origins = {item.origin: number for number, item in enumerate(items)}
        placed = self.place_all(
            Items(
                np.array([item.prompt_id for item in items], object),
                np.array([origins[item.origin] for item in items], np.int32),
                np.array([item.has_response for item in items], np.bool_),
                np.array([item.has_pair for item in items], np.bool_),
            )
        )
        columns = (placed.sft.tolist(), placed.dpo.tolist(), placed.blame.tolist())
        return {
            item.prompt_id: Place(sft, dpo, BLAMED[blame])
            for item, sft, dpo, blame in zip(items, *columns, strict=True)
        }

    def place_all(self, items: Items) -> Placed:
        """The same as columns."""
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

    def place_all(self, items: Items) -> Placed:
        """The places of the prompts of each set, one set after the other."""
        if self.per == "domain":
            return self._place_set(items)
        placed = Placed.nowhere(len(items))
        for origin in np.unique(items.origin):
            members = np.flatnonzero(items.origin == origin)
            placed.put(members, self._place_set(items.take(members)))
        return placed

    def _place_set(self, items: Items) -> Placed:
        raise NotImplementedError

    def _drawn(self, items: Items) -> Array:
        """Positions of the prompts in the order in which they are drawn."""
        if self.order == "sequential":
            return np.arange(len(items))
        draws = _draws(self.seed, items)
        order = np.argsort(draws, kind="stable")
        if (draws[order][1:] == draws[order][:-1]).any():  # then the ids decide
            ids = list(items.texts())
            order = np.array(sorted(order.tolist(), key=lambda at: (draws[at], ids[at])), np.int64)
        return order


def _draws(seed: int, items: Items) -> Array:
    """`digest([seed, prompt_id])` of each, `S`; of the pair only the id is spelled each time."""
    begun = f"[{canonical_json(seed)},"
    keys = (
        digest_bytes(f"{begun}{canonical_json(one)}]".encode("utf-8", "surrogatepass")).encode()
        for one in items.texts()
    )
    return np.fromiter(keys, f"S{DIGEST_LENGTH}", len(items))


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

    def _place_set(self, items: Items) -> Placed:
        both = np.flatnonzero(items.has_pair & items.has_response)
        only_sft = ~items.has_pair & items.has_response & self.no_pair_to_sft
        rest = int(only_sft.sum())
        count = max(0, self._sft_count(len(both) + rest) - rest)
        drawn = both[self._drawn(items.take(both))]
        sft, dpo = only_sft.copy(), np.zeros(len(items), np.bool_)
        sft[drawn[:count]] = True
        dpo[drawn[count:]] = True
        return Placed(sft, dpo, _blame(sft | dpo, np.where(items.has_pair, NO_RESPONSE, NO_PAIR)))


class SplitThenFilter(_Shared):
    """Give a share of all prompts to SFT, then drop those that give nothing in their part.

    The share is of all prompts of each set; the others are the DPO part.
    """

    rule: Literal["split_then_filter"]

    def _place_set(self, items: Items) -> Placed:
        for_sft = np.zeros(len(items), np.bool_)
        for_sft[self._drawn(items)[: self._sft_count(len(items))]] = True
        dpo = ~for_sft & items.has_pair
        moved = ~for_sft & ~items.has_pair & self.no_pair_to_sft
        sft = (for_sft | moved) & items.has_response
        return Placed(sft, dpo, _blame(sft | dpo, np.where(for_sft, NO_RESPONSE, NO_PAIR)))


class PairElseSft(_Drawn):
    """A pair goes to DPO, a response without one to SFT, the rest is dropped (math and code)."""

    asks: ClassVar[tuple[str, ...]] = ("sft", "dpo")

    rule: Literal["pair_else_sft"]
    dpo_fraction: float | None = Field(default=None, ge=0, le=1)
    """Greatest share of the used prompts that may go to DPO; the surplus goes to SFT. 0.224 is
    the share that FuseChat-3.0 publishes for math; null: no cap."""
    allow_overlap: bool = False
    """Whether a prompt that gives a pair also gives an SFT row."""

    def _place_set(self, items: Items) -> Placed:
        dpo = items.has_pair.copy()
        if self.dpo_fraction is not None:
            pairs = np.flatnonzero(items.has_pair)
            used = int((items.has_pair | items.has_response).sum())
            drawn = pairs[self._drawn(items.take(pairs))]
            # A pair without an SFT response cannot go to SFT, so it stays first.
            drawn = drawn[np.argsort(items.has_response[drawn], kind="stable")]
            dpo[drawn[math.floor(share_of(self.dpo_fraction, used)) :]] = False
        sft = items.has_response & (~dpo | self.allow_overlap)
        return Placed(sft, dpo, _blame(sft | dpo, NO_RESPONSE))


class SftOnly(Rule):
    """Every prompt that gives a response goes to SFT (Chinese: no reward model suits it)."""

    asks: ClassVar[tuple[str, ...]] = ("sft",)

    rule: Literal["sft_only"]

    def place_all(self, items: Items) -> Placed:
        """SFT or dropped."""
        sft = items.has_response.copy()
        return Placed(sft, np.zeros(len(items), np.bool_), _blame(sft, NO_RESPONSE))


class DpoOnly(Rule):
    """Every prompt that gives a pair goes to DPO; there is no SFT part."""

    asks: ClassVar[tuple[str, ...]] = ("dpo",)

    rule: Literal["dpo_only"]

    def place_all(self, items: Items) -> Placed:
        """DPO or dropped."""
        dpo = items.has_pair.copy()
        return Placed(np.zeros(len(items), np.bool_), dpo, _blame(dpo, NO_PAIR))


def _blame(used: Array, otherwise: Array | int) -> Array:
    return np.where(used, 0, otherwise).astype(np.int8)


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

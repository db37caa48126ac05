"""The miniature world: what a problem is, how texts are split, and how problems are drawn.

A problem is *basic* (one step, one operation, at most one extra constraint) or *full* (a
composition of those). Every prompt text belongs to exactly one split, by a hash of the text
itself, so that splits are disjoint as texts however many are drawn.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

VERSION = "1"
"""Raised when any prompt, split or model recipe of the world changes."""

Split = Literal["pretrain", "fusion", "dev", "test"]
SPLITS: tuple[Split, ...] = ("pretrain", "fusion", "dev", "test")
_SHARES: Mapping[Split, int] = {"pretrain": 70, "fusion": 12, "dev": 6, "test": 12}
DOMAINS = ("math", "code", "chat", "zh")
BASIC_SHARE = 0.2
"""Share of basic problems among the prompts of fusion, dev and test."""
_PATIENCE = 400


@dataclass(frozen=True)
class Problem:
    """One prompt with a right response and what an answer is checked against."""

    text: str
    response: str
    basic: bool
    gold: Mapping[str, str]
    """Fields of `fusechat.records.Prompt`: answer, tests, reference or checker."""


class Draw(Protocol):
    """Draws one problem of a domain."""

    def __call__(self, rng: random.Random, basic: bool) -> Problem: ...


def split_of(text: str) -> Split:
    """The split that a prompt text belongs to: 70 % pretrain, 12 % fusion, 6 % dev, 12 % test."""
    place = int(hashlib.sha256(f"fusechat miniature|{text}".encode()).hexdigest()[:8], 16) % 100
    for split in SPLITS:
        if place < _SHARES[split]:
            return split
        place -= _SHARES[split]
    raise AssertionError("the shares of the splits do not sum to 100")


def draw_of(domain: str) -> Draw:
    """The generator of a domain. Raises `ValueError` for an unknown one."""
    from fusechat.miniature import chat_world, code_world, math_world, zh_world

    found: dict[str, Draw] = {
        "math": math_world.draw,
        "code": code_world.draw,
        "chat": chat_world.draw,
        "zh": zh_world.draw,
    }
    if domain not in found:
        raise ValueError(f"the miniature world has no domain '{domain}'; it has {DOMAINS}.")
    return found[domain]


def problems(
    domain: str, split: Split, seed: object, basic_share: float = BASIC_SHARE
) -> Iterator[Problem]:
    """Endless problems of one split, repeats included; the same for the same arguments."""
    draw, rng = draw_of(domain), random.Random(f"{domain}|{split}|{seed}")
    while True:
        basic = rng.random() < basic_share
        problem = draw(rng, basic)
        while split_of(problem.text) != split:
            problem = draw(rng, basic)
        yield problem


def distinct(
    domain: str, split: Split, seed: object, size: int, basic_share: float = BASIC_SHARE
) -> list[Problem]:
    """The first `size` problems with different texts.

    Raises `ValueError` where the domain runs out of new texts.
    """
    seen: dict[str, Problem] = {}
    for tries, problem in enumerate(problems(domain, split, seed, basic_share)):
        seen.setdefault(problem.text, problem)
        if len(seen) == size:
            return list(seen.values())
        if tries > _PATIENCE * size:
            break
    raise ValueError(
        f"the split '{split}' of {domain} gave only {len(seen)} different prompts; "
        f"ask for fewer than {size}."
    )

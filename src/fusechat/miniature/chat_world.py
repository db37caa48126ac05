"""Chat: lists and repetitions under instructions that a rule can check."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fusechat.miniature.world import Problem

POOLS = {
    "animals": tuple("cat dog cow pig hen fox bear lion wolf frog".split()),
    "colors": tuple("red blue green pink gray gold black white brown tan".split()),
    "fruits": tuple("apple pear plum fig lime kiwi mango grape peach lemon".split()),
    "tools": tuple("saw axe drill file rake hoe knife brush clamp lever".split()),
}
WORDS = tuple("river stone cloud moon tree star lake hill road door ship bell".split())
SEPARATORS = {"commas": ", ", "dashes": " - ", "semicolons": "; ", "slashes": " / "}
STARTS, ENDS = ("Sure:", "Okay:", "Hello:", "Well:"), ("Done!", "Bye!", "Thanks!", "Enjoy!")
_COUNTS = (2, 3, 4, 5)


@dataclass(frozen=True)
class Wish:
    """What one chat prompt asks for."""

    topic: str
    """A pool's name, or the word to repeat."""
    count: int
    separator: str | None = None
    upper: bool = False
    start: str | None = None
    end: str | None = None
    banned: str | None = None

    @property
    def pool(self) -> tuple[str, ...]:
        """The items that may be named."""
        return POOLS.get(self.topic, (self.topic,))

    def checker(self) -> list[dict[str, Any]]:
        """The constraints, as `instruction_rules` reads them."""
        rules: list[dict[str, Any]] = [
            {"rule": "count", "equals": self.count},
            {"rule": "separator", "text": SEPARATORS[self.separator or "commas"]},
            {"rule": "from_pool", "pool": list(self.pool)},
        ]
        if self.topic in POOLS:
            rules.append({"rule": "distinct"})
        if self.upper:
            rules.append({"rule": "case", "is": "upper"})
        if self.start:
            rules.append({"rule": "starts_with", "text": self.start})
        if self.end:
            rules.append({"rule": "ends_with", "text": self.end})
        if self.banned:
            rules.append({"rule": "forbidden", "words": [self.banned]})
        return rules


def answer(wish: Wish, items: Sequence[str]) -> str:
    """The response that names `items` in the form that `wish` asks for."""
    body = SEPARATORS[wish.separator or "commas"].join(items)
    body = body.upper() if wish.upper else body
    return " ".join(part for part in (wish.start, body, wish.end) if part)


def right_answer(rng: random.Random, wish: Wish) -> str:
    """A response that meets every constraint."""
    if wish.topic not in POOLS:
        return answer(wish, [wish.topic] * wish.count)
    allowed = [item for item in wish.pool if item != wish.banned]
    return answer(wish, rng.sample(allowed, wish.count))


def one_mistake(rng: random.Random, wish: Wish) -> str:
    """A response that breaks one constraint, any of those that `wish` has."""
    listing = wish.topic in POOLS
    kinds = ["count", "foreign", *(["separator"] if wish.count > 1 else [])]
    kinds += ["repeated"] if listing else []
    kinds += [k for k in ("upper", "start", "end", "banned") if getattr(wish, k)]
    kind = rng.choice(kinds)
    if kind == "count":
        count = wish.count + rng.choice((-1, 1))
        return right_answer(rng, replace(wish, count=max(1, count)))
    if kind == "separator":
        others = [s for s in SEPARATORS if s != (wish.separator or "commas")]
        return right_answer(rng, replace(wish, separator=rng.choice(others)))
    if kind == "upper":
        return right_answer(rng, replace(wish, upper=False))
    if kind == "start":
        other = rng.choice([None, *(s for s in STARTS if s != wish.start)])
        return right_answer(rng, replace(wish, start=other))
    if kind == "end":
        other = rng.choice([None, *(s for s in ENDS if s != wish.end)])
        return right_answer(rng, replace(wish, end=other))
    return answer(wish, _wrong_items(rng, wish, kind))


def _wrong_items(rng: random.Random, wish: Wish, kind: str) -> list[str]:
    allowed = [item for item in wish.pool if item != wish.banned]
    listing = wish.topic in POOLS
    items = rng.sample(allowed, wish.count) if listing else [wish.topic] * wish.count
    place = rng.randrange(wish.count)
    if kind == "banned" and wish.banned:
        items[place] = wish.banned
    elif kind == "repeated":
        items[place] = items[place - 1]
    else:
        strangers = [w for name, pool in POOLS.items() if name != wish.topic for w in pool]
        items[place] = rng.choice([w for w in (*strangers, *WORDS) if w not in wish.pool])
    return items


def wish(rng: random.Random, basic: bool) -> Wish:
    """Something to ask for: with at most one extra (basic), or with two to four."""
    listing = rng.random() < 0.7
    asked = Wish(rng.choice(tuple(POOLS) if listing else WORDS), rng.choice(_COUNTS))
    extras = ["separator", "upper", "start", "end", *(["banned"] if listing else [])]
    for extra in rng.sample(extras, rng.choice((0, 1, 1, 1)) if basic else rng.choice((2, 3, 3, 4))):
        found: dict[str, Any] = {
            "separator": rng.choice(tuple(SEPARATORS)),
            "upper": True,
            "start": rng.choice(STARTS),
            "end": rng.choice(ENDS),
            "banned": rng.choice(asked.pool),
        }
        asked = replace(asked, **{extra: found[extra]})
    return asked


def prompt_text(rng: random.Random, asked: Wish) -> str:
    """The prompt for `asked`, its constraints in any order."""
    if asked.topic in POOLS:
        head = rng.choice((f"List {asked.count} {asked.topic}", f"Name {asked.count} {asked.topic}"))
    else:
        head = f"Write {asked.topic} {asked.count} times"
    bits = []
    if asked.separator:
        bits.append(rng.choice((f"separated by {asked.separator}", f"with {asked.separator}")))
    if asked.upper:
        bits.append(rng.choice(("in upper case", "in capitals")))
    if asked.start:
        bits.append(rng.choice((f"start with {asked.start}", f"begin with {asked.start}")))
    if asked.end:
        bits.append(rng.choice((f"end with {asked.end}", f"finish with {asked.end}")))
    if asked.banned:
        bits.append(rng.choice((f"but not {asked.banned}", f"without {asked.banned}")))
    rng.shuffle(bits)
    return ", ".join([head, *bits]) + "."


def draw(rng: random.Random, basic: bool) -> Problem:
    """A list or a repetition with at most one extra constraint (basic), or with two to four."""
    asked = wish(rng, basic)
    return Problem(
        text=prompt_text(rng, asked),
        response=right_answer(rng, asked),
        basic=basic,
        gold={"checker": json.dumps(asked.checker(), ensure_ascii=False)},
    )

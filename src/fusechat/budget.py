"""Limits on sampling: what was spent, how it is shared between sources, when a source stops.

Pure counting: no file is read, and the clock is given. Sources run one after the other, so a
limit is shared before each begins. All sources are to cover the same first prompts (rows are
asked in prompt order), hence what is left is given out up to one *level*: the same share of
its rows for each source, by what a row of each is expected to take. A source that already has
more than the level waits for the others; what a source leaves over goes to those after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusechat.records import Response, Score, SourceLogp
from fusechat.settings import Price

BYTES_PER_TOKEN = 4.0
"""Of UTF-8, where a source tells no tokens and too few were seen to measure it: an estimate."""
ENOUGH_TOKENS = 1000
"""So many tokens with their texts say how many bytes a source's token has."""
OPTIONS = {"tokens": "--max-tokens", "hours": "--max-hours", "cost": "--max-cost"}


@dataclass(frozen=True)
class Limits:
    """What sampling may take; None is no limit."""

    tokens: float | None = None
    """Prompt and response tokens of all sources of the plan, those of earlier calls included."""
    hours: float | None = None
    """Of sampling, in this call."""
    cost: float | None = None
    """In the currency of the cluster file's prices, earlier calls included."""

    def given(self) -> dict[str, float]:
        """Those that are set, by name."""
        found = {"tokens": self.tokens, "hours": self.hours, "cost": self.cost}
        return {name: value for name, value in found.items() if value is not None}


@dataclass
class Tally:
    """Rows and tokens of one source."""

    rows: int = 0
    prompt_tokens: int = 0
    """Counted for every response, where the source tells them."""
    known_tokens: int = 0
    known_bytes: int = 0
    """Of the texts whose tokens are known."""
    guessed_bytes: int = 0
    """Of the texts whose tokens are not."""
    guessed_rows: int = 0

    def see(self, tokens: int | None, prompt_tokens: int | None, text_bytes: int) -> None:
        """Count one response."""
        self.rows += 1
        self.prompt_tokens += prompt_tokens or 0
        if tokens is not None:
            self.known_tokens += tokens
            self.known_bytes += text_bytes
        elif text_bytes:
            self.guessed_bytes += text_bytes
            self.guessed_rows += 1

    def add(self, response: Response) -> None:
        """Count one response."""
        text = response.text + (response.reasoning or "")
        size = len(text.encode("utf-8", "replace"))
        self.see(response.tokens, response.prompt_tokens, size)

    @property
    def bytes_per_token(self) -> float:
        """Measured where enough tokens are known, else `BYTES_PER_TOKEN`."""
        measured = self.known_tokens >= ENOUGH_TOKENS and self.known_bytes > 0
        return self.known_bytes / self.known_tokens if measured else BYTES_PER_TOKEN

    @property
    def response_tokens(self) -> float:
        """Known tokens, and an estimate from the texts of the others."""
        return self.known_tokens + self.guessed_bytes / self.bytes_per_token

    @property
    def tokens(self) -> float:
        """Prompt and response tokens."""
        return self.prompt_tokens + self.response_tokens

    def cost(self, price: Price | None) -> float:
        """In the currency of the price; nothing without one."""
        return price_of(price, self.prompt_tokens, self.response_tokens)


def price_of(price: Price | None, prompt_tokens: float, response_tokens: float) -> float:
    """What so many tokens cost; 0 without a price."""
    if price is None:
        return 0.0
    return (price.prompt * prompt_tokens + price.response * response_tokens) / 1e6


def shares(amount: float, needs: Sequence[tuple[float, float]]) -> list[float]:
    """Divide `amount` so that what each has in the end is the same share of its whole.

    `needs`: (held, whole) of each, 0 <= held, 0 < whole. Those that hold more than the common
    share get nothing. The sum of the result is `amount`, or 0 where that is not above 0.
    """
    if amount <= 0 or not needs:
        return [0.0] * len(needs)
    order = sorted(range(len(needs)), key=lambda i: needs[i][0] / needs[i][1])
    held = whole = level = 0.0
    for place, i in enumerate(order):
        held, whole = held + needs[i][0], whole + needs[i][1]
        level = (amount + held) / whole
        following = order[place + 1 :]
        if not following or level <= needs[following[0]][0] / needs[following[0]][1]:
            break
    return [max(0.0, level * size - have) for have, size in needs]


@dataclass
class Demand:
    """What one source of the plan is to give."""

    rows: int
    """In total, those that are there included."""
    price: Price | None = None
    held: Tally = field(default_factory=Tally)
    """What its unit holds."""
    expected: tuple[float, float] | None = None
    """Prompt and response tokens of a row, from a pilot; without it what its rows have."""
    seconds: float | None = None
    """Of a row, from a pilot."""

    @property
    def left(self) -> int:
        """Rows without an answer."""
        return max(0, self.rows - self.held.rows)


Rule = Callable[[Sequence[Response | Score | SourceLogp]], "str | None"]


class Budget:
    """Gives each source its stop rule, and counts what they take.

    `begin(unit)` before a source runs, `end(unit)` after it. The call may pass the limit by
    what was in flight when it was reached.
    """

    def __init__(
        self,
        limits: Limits,
        demands: Mapping[str, Demand],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits, self.demands = limits, dict(demands)
        self._clock = clock
        self._waiting = [name for name, demand in demands.items() if demand.left]
        self._seconds = 0.0
        self._begun: float | None = None
        self._reasons: dict[str, str] = {}

    def begin(self, unit: str) -> Rule:
        """The stop rule of a source that runs now."""
        demand = self.demands[unit]
        if unit not in self._waiting:
            return lambda rows: None
        allowed = {name: self._share(unit, name) for name in self._limiting(demand)}
        before = {name: self._spent_by(demand, name) for name in ("tokens", "cost")}
        self._begun = self._clock()
        begun = self._begun

        def rule(rows: Sequence[Response | Score | SourceLogp]) -> str | None:
            for row in rows:
                if isinstance(row, Response):
                    demand.held.add(row)
            for name, share in allowed.items():
                if name == "hours":
                    taken = (self._clock() - begun) / 3600
                else:
                    taken = self._spent_by(demand, name) - before[name]
                if taken >= share:
                    self._reasons[unit] = self._reason(name, share)
                    return self._reasons[unit]
            return None

        return rule

    def end(self, unit: str, held: Tally | None = None) -> None:
        """A source is over; `held`: what its unit holds now, adopted rows included."""
        if self._begun is not None:
            self._seconds += self._clock() - self._begun
            self._begun = None
        if held is not None:
            self.demands[unit].held = held
        if unit in self._waiting:
            self._waiting.remove(unit)

    def spent(self, name: str) -> float:
        """Tokens, cost, or hours of sampling so far."""
        if name == "hours":
            now = self._clock() - self._begun if self._begun is not None else 0.0
            return (self._seconds + now) / 3600
        return sum(self._spent_by(demand, name) for demand in self.demands.values())

    def report(self) -> dict[str, Any]:
        """What was spent of which limit, and what is missing, as JSON."""
        sources = {
            name: {
                "rows": demand.held.rows,
                "wanted": demand.rows,
                "missing": demand.left,
                "tokens": round(demand.held.tokens),
                "estimated_rows": demand.held.guessed_rows,
                "cost": round(demand.held.cost(demand.price), 6),
                "stopped": self._reasons.get(name) if demand.left else None,
            }
            for name, demand in self.demands.items()
        }
        limits = {
            name: {"limit": limit, "spent": round(self.spent(name), 6)}
            for name, limit in self.limits.given().items()
        }
        return {"limits": limits, "sources": sources}

    def _limiting(self, demand: Demand) -> list[str]:
        """The limits that a source counts against: one that is free has no cost."""
        free = demand.price is None or demand.price.prompt + demand.price.response == 0
        return [name for name in self.limits.given() if not (name == "cost" and free)]

    def _reason(self, name: str, share: float) -> str:
        limit = f"{OPTIONS[name]} {self.limits.given()[name]:,g}"
        if share <= 0 and self.spent(name) >= self.limits.given()[name]:
            return f"{limit} is used up"
        if share <= 0:
            return f"{limit}: it has its share, the sources after it do not"
        return f"its share of {limit} is used up ({_amount(name, share)})"

    def _share(self, unit: str, name: str) -> float:
        """What a source may take of a limit, from what is left for it and those after it."""
        left = self.limits.given()[name] - self.spent(name)
        place = self._waiting.index(unit)
        needs = []
        for other in self._waiting:
            demand = self.demands[other]
            one = self._of_a_row(other, name)
            held = one * demand.held.rows
            needs.append((held, max(one * demand.rows, held, 1e-12)))
        return shares(left, needs)[place]

    def _of_a_row(self, unit: str, name: str) -> float:
        """What one row of a source is expected to take of a limit; at least a trace."""
        demand = self.demands[unit]
        if name == "hours":
            known = [one.seconds for one in self.demands.values() if one.seconds]
            return demand.seconds or (sum(known) / len(known) if known else 1.0)
        prompt, response = _expected(demand) or self._usual()
        if name == "tokens":
            return max(prompt + response, 1e-9)
        return max(price_of(demand.price, prompt, response), 1e-15)

    def _usual(self) -> tuple[float, float]:
        """Tokens of a row of a source of which nothing is known: the mean of the others."""
        known = [found for one in self.demands.values() if (found := _expected(one))]
        if not known:
            return 1.0, 1.0
        return sum(one[0] for one in known) / len(known), sum(one[1] for one in known) / len(known)

    @staticmethod
    def _spent_by(demand: Demand, name: str) -> float:
        return demand.held.tokens if name == "tokens" else demand.held.cost(demand.price)


def _expected(demand: Demand) -> tuple[float, float] | None:
    held = demand.held
    if held.rows and held.tokens:
        return held.prompt_tokens / held.rows, held.response_tokens / held.rows
    return demand.expected


def _amount(name: str, value: float) -> str:
    if name == "tokens":
        return f"{value:,.0f} tokens"
    return f"{value:.3g} hours" if name == "hours" else f"{value:,.4g}"


def spent_lines(report: Mapping[str, Any]) -> list[str]:
    """What `Budget.report` says, for the terminal."""
    lines = [
        f"{OPTIONS[name]}: {found['spent']:,.6g} of {found['limit']:,.6g} spent"
        for name, found in report["limits"].items()
    ]
    missing = 0
    for name, found in report["sources"].items():
        guessed = f" ({found['estimated_rows']} rows by estimate)" * bool(found["estimated_rows"])
        line = f"  {name}: {found['rows']:,} of {found['wanted']:,} rows"
        line += f", {found['tokens']:,} tokens{guessed}"
        lines.append(line + (f"; {found['stopped']}" if found["stopped"] else ""))
        missing += found["missing"]
    if missing:
        lines.append(
            f"{missing:,} responses are missing; the sets are built from what is there. To go on: "
            "the same command with a higher limit, or without one."
        )
    return lines

"""How fast each server is asked: additive increase, multiplicative decrease; and set-asides. Pure.

Times are seconds of a monotonic clock, given by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_WAIT = 600.0
"""Longest that a server's Retry-After is believed; then it is asked again."""
LONGEST_BACKOFF = 60.0
REFUSAL_PAUSE = 60.0
"""How long a server that refuses us (its key, its model) is left alone."""


@dataclass
class Lane:
    """One server: how many requests it may have, and until when it is left alone."""

    url: str
    most: int
    """Never more requests in flight than these."""
    limit: float = 0.0
    """As many requests as it stands, by experience."""
    flying: int = 0
    closed_until: float = 0.0
    """A rate limit ends then."""
    down_until: float = 0.0
    refused_until: float = 0.0
    failures: int = 0
    """Failed in a row; 0: it works."""
    limited: int = 0
    """Limited in a row."""
    odd: int = 0
    """Failed answers in a row; 0 after a usable one."""
    ignores_n: bool = False
    reason: str = ""
    """Why it was last set aside."""
    _cut_at: float = field(default=-math.inf, repr=False)

    def __post_init__(self) -> None:
        self.limit = float(self.most)

    def room(self, now: float) -> bool:
        """Whether it takes one more request; a server that failed gets one at a time."""
        if now < self.opens():
            return False
        return self.flying < (1 if self.failures else max(1, int(self.limit)))

    def opens(self) -> float:
        """When it may be asked again."""
        return max(self.closed_until, self.down_until, self.refused_until)

    def lost(self, now: float) -> bool:
        """Whether it is known not to work, for whatever reason; a rate limit is none."""
        return self.failures > 0 or now < self.refused_until

    def good(self) -> None:
        """A usable answer came: one more request per round of as many as it has."""
        self.failures = self.limited = self.odd = 0
        self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def slow_down(self, sent: float, now: float) -> None:
        """Half as many; once for all that were sent before the last time."""
        if sent >= self._cut_at:
            self.limit = max(1.0, self.limit / 2)
            self._cut_at = now

    def close(
        self, wait: float | None, sent: float, now: float, jitter: float, base: float
    ) -> None:
        """A rate limit: half as many, and none for `wait` seconds, or for longer each time."""
        self.slow_down(sent, now)
        if wait is None:
            wait = backoff(self.limited, base)
        self.limited += 1
        wait = min(wait, LONGEST_WAIT)
        self.closed_until = max(self.closed_until, now + wait + jitter * min(base, wait))

    def fail(self, reason: str, now: float, jitter: float, base: float) -> None:
        """It does not answer: left alone, longer each time, then tried with one request."""
        if now >= self.down_until:
            pause = backoff(self.failures, base)
            self.down_until = now + pause * (0.5 + jitter / 2)
            self.failures += 1
        self.reason = reason

    def refuse(self, reason: str, now: float) -> None:
        """It will not work for us (wrong key, other model) before someone mends it."""
        self.refused_until, self.reason = now + REFUSAL_PAUSE, reason


def backoff(times: int, base: float) -> float:
    """Seconds to wait after so many failures before this one."""
    return float(min(base * 2.0 ** min(times, 16), LONGEST_BACKOFF))


def choose(lanes: Sequence[Lane], now: float, avoid: str | None = None) -> Lane | None:
    """The server with most room, another than `avoid` where there is one; None: none has room."""
    free = [lane for lane in lanes if lane.room(now)]
    others = [lane for lane in free if lane.url != avoid]
    return min(others or free, key=lambda lane: lane.flying / max(1.0, lane.limit), default=None)


def retry_after(value: str | None, date: str | None = None) -> float | None:
    """Seconds that a Retry-After header asks for; a date in it is held against the Date header."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
            now = parsedate_to_datetime(date) if date else datetime.now(UTC)
            seconds = (until - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(0.0, seconds), LONGEST_WAIT) if math.isfinite(seconds) else None

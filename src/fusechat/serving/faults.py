"""Faults on purpose: what a server does wrong, when, and what it saw, for tests of clients.

A faults file is JSON: `{"seed": 0, "rules": [{"kind": "rate_limit", "probability": 0.1}, ...]}`.
An empty object breaks nothing and only counts. Requests are numbered from 1 as they come.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fusechat.digests import digest
from fusechat.errors import PartError
from fusechat.serving.contract import Ask

Kind = Literal[
    "rate_limit", "error", "cut", "slow", "ignore_n", "wrong_model", "malformed", "empty",
    "greedy",
]  # fmt: skip
BEFORE = ("rate_limit", "error")
"""Kinds that answer in place of the model; of those that meet a request the first rule acts."""


class FaultRule(BaseModel):
    """One fault, and which requests it meets: all that its conditions leave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    """`rate_limit`: 429. `error`: `status`. `cut`: the answer ends after the share `after` of it,
    and the connection with it. `slow`: `seconds` before the answer. `ignore_n`:
    one choice. `wrong_model`: `model` in the answer. `malformed`: no JSON. `empty`: answers
    without text. `greedy`: temperature 0."""
    requests: str | None = None
    """Numbers of requests, such as `1-20,35` or `50-`."""
    probability: float = Field(default=1.0, ge=0, le=1)
    times: int | None = Field(default=None, ge=1)
    """At most so often."""
    contains: str | None = None
    """Only requests with this text in a message."""
    status: int = Field(default=500, ge=400, le=599)
    retry_after: float | None = Field(default=1, ge=0)
    """Seconds in the header `Retry-After` of 429 and 503; null: no header."""
    seconds: float = Field(default=1, ge=0)
    after: float = Field(default=0.5, ge=0, lt=1)
    model: str = "another-model"

    @field_validator("requests")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            _ranges(value)
        return value


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seed: int = 0
    rules: list[FaultRule] = []


Met = dict[str, FaultRule]
"""The faults that one request meets, by kind."""


class Faults:
    """Decides the faults of each request, and counts what came and what was answered."""

    def __init__(self, *rules: FaultRule, seed: int = 0) -> None:
        self._rules, self._seed = rules, seed
        self._acted = [0] * len(rules)
        self._rows: Counter[str] = Counter()
        self._numbers: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._in_flight = 0

    @classmethod
    def read(cls, path: Path) -> Faults:
        """From a faults file; raises `PartError` saying what is wrong with it."""
        try:
            made = _File.model_validate_json(path.read_bytes())
        except OSError as error:
            raise PartError(f"--faults {path} cannot be read: {error.strerror}.") from error
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise PartError(f"--faults {path}: {'; '.join(faults)}.") from error
        return cls(*made.rules, seed=made.seed)

    def begin(self) -> int:
        """A request has come; returns its number."""
        self._numbers["requests"] += 1
        self._in_flight += 1
        self._numbers["most_in_flight"] = max(self._numbers["most_in_flight"], self._in_flight)
        return self._numbers["requests"]

    def end(self, status: str) -> None:
        """A request was answered with a status; or its answer was `cut`, or its client `gone`."""
        self._in_flight -= 1
        self._statuses[status] += 1

    def meet(self, number: int, ask: Ask) -> Met:
        """The faults of a request, from its number, the seed and the rules before it."""
        met: Met = {}
        for place, rule in enumerate(self._rules):
            if rule.kind in met or (rule.kind in BEFORE and any(kind in met for kind in BEFORE)):
                continue
            if self._meets(place, rule, number, ask):
                self._acted[place] += 1
                met[rule.kind] = rule
        self._kinds.update(list(met))
        return met

    def _meets(self, place: int, rule: FaultRule, number: int, ask: Ask) -> bool:
        if rule.times is not None and self._acted[place] >= rule.times:
            return False
        if rule.requests and not any(a <= number <= b for a, b in _ranges(rule.requests)):
            return False
        texts = (message["content"] for message in ask.messages)
        if rule.contains is not None and not any(rule.contains in text for text in texts):
            return False
        drawn = random.Random(f"{self._seed}/{place}/{number}").random()
        return drawn < rule.probability

    def computed(self, ask: Ask) -> None:
        """Choices are computed; those with a seed are known again."""
        self._numbers["choices"] += ask.n
        if ask.seed is not None:
            asked = digest(list(ask.messages))
            self._rows.update(f"{asked}/{ask.seed + index}" for index in range(ask.n))

    def sent(self, choices: int, tokens: int) -> None:
        """An answer was sent to its end."""
        self._numbers["choices_sent"] += choices
        self._numbers["tokens_sent"] += tokens

    def counts(self) -> dict[str, Any]:
        """What was seen so far, for `GET /faults/counts`."""
        names = ("requests", "most_in_flight", "choices", "choices_sent", "tokens_sent")
        return {
            **{name: self._numbers[name] for name in names},
            "in_flight": self._in_flight,
            "answers": dict(self._statuses),
            "faults": dict(self._kinds),
            "rows": len(self._rows),
            "rows_again": sum(self._rows.values()) - len(self._rows),
        }


def _ranges(text: str) -> list[tuple[float, float]]:
    """`1-20,35,50-` as pairs of first and last number."""
    pairs: list[tuple[float, float]] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        begin = int(first)
        pairs.append((begin, (int(last) if last else float("inf")) if dash else begin))
    return pairs


def written(path: Path, *rules: dict[str, Any], seed: int = 0) -> Path:
    """A faults file with these rules; returns its path."""
    path.write_text(json.dumps({"seed": seed, "rules": rules}), encoding="utf-8")
    return path

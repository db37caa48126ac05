"""The judged responses to one prompt as rows, and what a strategy picks from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fusechat.records import Status


@dataclass(frozen=True)
class Judged:
    """What a strategy sees of one score."""

    status: Status
    value: float | None
    reason: str = ""


@dataclass(frozen=True)
class Seen:
    """What a strategy sees of one response: no text, only its digest."""

    response_id: str
    source: str
    index: int
    finish: str
    whole: bool
    """Neither cut, failed nor empty: only such a response may be chosen or rejected."""
    text_digest: str
    tokens: int | None
    scores: Mapping[str, Judged] = field(default_factory=dict)
    """Annotator name -> its judgement; an annotator that does not judge this domain is absent."""


@dataclass(frozen=True)
class Group:
    """All responses to one prompt, sources in recipe order, then by sample index."""

    prompt_id: str
    domain: str
    sources: tuple[str, ...]
    responses: tuple[Seen, ...]


@dataclass(frozen=True)
class Choice:
    """One response picked to imitate."""

    response_id: str
    score: float | None
    reason: str
    weight: float = 1.0
    """What the row's loss is multiplied by."""


@dataclass(frozen=True)
class PairChoice:
    """A chosen and a rejected response."""

    chosen_id: str
    rejected_id: str
    chosen_score: float | None
    rejected_score: float | None
    margin: float | None
    reason: str
    weight: float = 1.0
    """What the row's loss is multiplied by."""


@dataclass(frozen=True)
class TripleChoice:
    """A source's response, and a better and a worse one of the target itself."""

    source_chosen_id: str
    target_chosen_id: str
    rejected_id: str
    source_chosen_score: float | None
    target_chosen_score: float | None
    rejected_score: float | None
    margin: float | None
    reason: str
    weight: float = 1.0


@dataclass(frozen=True)
class Refusal:
    """Why a prompt gave nothing: `reason` is countable, `details` this prompt's numbers."""

    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)

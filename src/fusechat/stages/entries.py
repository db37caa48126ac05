"""Recipe entries that wrap a part: what is the part's, and which rows are wanted of it.

An entry reads as one flat mapping; keys that are not the entry's own are the part's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from fusechat.parts import AnnotatorPart, RowPart, SourcePart, TaskPart
from fusechat.records import Prompt
from fusechat.stages.prompt_filters import NearDuplicates, Needed, Topic


class Entry(BaseModel):
    """Base of the entries: own keys beside a `part` built from all the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            value = {"use": value}
        if value is None:
            value = {}
        if not isinstance(value, Mapping) or "part" in value:
            return value
        own = {key: inner for key, inner in value.items() if key in cls.model_fields}
        rest = {key: inner for key, inner in value.items() if key not in cls.model_fields}
        return own | {"part": rest}


class HeldOutSet(Entry):
    """Prompts that must not be trained on: a task part and one of its splits."""

    part: TaskPart
    split: str | None = None
    """Which split of the task; without it the task's first."""

    def prompts(self) -> Iterator[Prompt]:
        """Its prompts; rows that are none are passed over."""
        for row in self.part.prompts(self.split or self.part.splits[0]):
            if isinstance(row, Prompt):
                yield row


class Decontamination(BaseModel):
    """Leave prompts out that a test set has: exactly, or in a run of words (method: A23)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    against: tuple[HeldOutSet, ...] = Field(min_length=1)
    ngram: int = Field(default=13, ge=1)
    """Words in a row that two prompts must share; a shorter test prompt counts as a whole."""


class PromptsEntry(Entry):
    """One prompt set: a task part, and which of its prompts are wanted."""

    part: TaskPart
    domain: str | None = None
    """The domain of its prompts; without it the task says."""
    split: str | None = None
    """Which split of the task; without it the task's first."""
    take: int | None = Field(default=None, ge=1)
    """At most so many prompts, drawn with the recipe's seed and kept in their order."""
    licence: str | None = None
    leave_out: tuple[Topic, ...] = ()
    """Prompts about these topics are dropped, by rule (`code`, `math`): FuseChat-3.0 takes them out
    of its instruction sets."""
    language: Literal["zh"] | None = None
    """Prompts that are not in this language are dropped, by script: `zh` wants at least half of
    the letters to be Han characters, and hardly any kana."""
    requires: tuple[Needed, ...] = ()
    """Prompts without one of these are dropped (`tests`, `answer`, `reference`): FuseChat-3.0 keeps
    the coding prompts that have tests."""
    near_duplicates: NearDuplicates | None = None
    """Prompts that are nearly one of an earlier set, or an earlier one of this set, are dropped."""
    decontaminate: Decontamination | None = None
    """Test sets whose prompts are dropped."""

    def wanted_split(self) -> str:
        """The split to read."""
        return self.split or self.part.splits[0]

    def wanted_domain(self) -> str | None:
        """The domain of its prompts, as far as it is known before reading."""
        return self.domain or self.part.domain


class SourceEntry(Entry):
    """One source: a source part, and how many samples of it are wanted."""

    part: SourcePart
    samples: int | dict[str, int] | None = None
    """Samples per prompt, or per domain; a domain left out is not sampled. Without it: what a
    stored source has, else one."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        counts = self.samples.values() if isinstance(self.samples, dict) else [self.samples]
        if any(count is not None and count < 1 for count in counts):
            raise ValueError("samples must be at least 1; leave a domain out to not sample it")
        return self

    def wants(self, domain: str) -> bool:
        """Whether prompts of this domain are sampled."""
        return not isinstance(self.samples, dict) or domain in self.samples

    def samples_for(self, domain: str) -> int | None:
        """Samples per prompt of this domain; None is all that a stored source has."""
        return self.samples[domain] if isinstance(self.samples, dict) else self.samples


class AnnotatorEntry(Entry):
    """One annotator: an annotator part, and the domains that it judges."""

    part: AnnotatorPart
    domains: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Without it: every domain."""

    def judges(self, domain: str) -> bool:
        """Whether responses to prompts of this domain are judged."""
        return self.domains is None or domain in self.domains


class LogpsEntry(BaseModel):
    """What is asked how likely a source finds the responses of the preference rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: RowPart
    """A source's `logps()`."""

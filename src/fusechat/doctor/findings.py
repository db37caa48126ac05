"""What the doctor says: findings, the models that were looked at, and both together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Level = Literal["fault", "warning", "note"]
LEVELS: tuple[Level, ...] = ("fault", "warning", "note")
COULD_NOT_LOOK = "could-not-look"
"""The check of a finding that says that nothing was found because nothing could be seen."""


@dataclass(frozen=True)
class Finding:
    """One thing found.

    A *fault* spoils results or makes rows fail; a *warning* does so under conditions that the
    doctor cannot see, or in other tools; a *note* is good to know.
    """

    level: Level
    check: str
    """Short stable name, as in docs/doctor.md: `bos-doubled`."""
    what: str
    mend: str = ""
    place: str = ""
    """Recipe key: `sources.gemma`; empty for the whole recipe."""

    def at(self, place: str) -> Finding:
        """The same finding with its place."""
        return replace(self, place=place)

    def __str__(self) -> str:
        head = f"{self.level:7} {self.place or 'recipe'} [{self.check}]"
        return f"{head}\n        {self.what}" + (
            f"\n        mend: {self.mend}" if self.mend else ""
        )


@dataclass(frozen=True)
class ModelRow:
    """One line of the table: a model, and what was seen of it. Text `?` is: could not look."""

    place: str
    model: str
    looked: bool
    bos: str = "?"
    system: str = "?"
    end: str = "?"
    date: str = "?"
    context: str = "?"
    licence: str = "?"


@dataclass(frozen=True)
class Examination:
    """All that the doctor found in a recipe."""

    recipe: str
    models: tuple[ModelRow, ...]
    findings: tuple[Finding, ...] = field(default=())

    def of(self, level: Level) -> tuple[Finding, ...]:
        """The findings of one level."""
        return tuple(one for one in self.findings if one.level == level)

    @property
    def healthy(self) -> bool:
        """Whether there is no fault; a model that could not be looked at is no fault, nor fine."""
        return not self.of("fault")

    def as_json(self) -> dict[str, Any]:
        """For a program to read; the counts first."""
        return {
            "recipe": self.recipe,
            "healthy": self.healthy,
            "counts": {level: len(self.of(level)) for level in LEVELS},
            "models": [asdict(row) for row in self.models],
            "findings": [asdict(one) for one in self.findings],
        }


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Faults first, then warnings, then notes; within a level in the order found, none twice."""
    once = dict.fromkeys(findings)
    return tuple(sorted(once, key=lambda one: LEVELS.index(one.level)))


def shortened(text: str, most: int = 60) -> str:
    """A text in one line, its end left out where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."

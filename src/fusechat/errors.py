"""Every error that a user can meet.

    FusechatError
    ├── RecipeError        faults of a recipe or of a call, all at once; exit code 2
    ├── MissingExtraError  a part needs a package that is not installed; exit code 2
    ├── WorkspaceBusyError another run holds the workspace; exit code 1
    ├── WorkspaceError     the workspace's folder cannot be written; exit code 1
    ├── PartError          a part could not be opened or broke its contract; exit code 1
    ├── SourceError        a source's servers are gone, or are not what was asked for; exit code 1
    ├── TooManyErrorsError a unit kept more failed rows than `max_error_share`; exit code 1
    ├── StaleInputError    a unit's input changed under it; exit code 1
    ├── DamagedError       a file of the workspace is not what was written; exit code 1
    ├── EmptyError         a unit has nothing to work on; exit code 1
    └── TrainingError      training cannot begin or go on; exit code 1

A `FusechatError` is printed without a traceback: its text says what, where and the mend.
Anything else is a fault of ours and keeps its traceback. To add one: subclass here, say
in its docstring who can mend it, and set `exit_code` where 1 is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FusechatError(Exception):
    """Root of all errors that a user can mend; `str(error)` is the whole message."""

    exit_code = 1


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a recipe: `place` (file:line), dotted `key`, `message` with the mend."""

    place: str
    key: str
    message: str

    def __str__(self) -> str:
        return "  ".join(part for part in (self.place, self.key, self.message) if part)


class RecipeError(FusechatError):
    """All faults of a recipe together; mended by its author. Nothing was run."""

    exit_code = 2

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        count = f"{len(self.faults)} fault" + ("" if len(self.faults) == 1 else "s")
        super().__init__("\n".join([*map(str, self.faults), f"{count}; nothing was run."]))


class MissingExtraError(FusechatError):
    """A chosen part needs an optional package; mended with one pip line, which it prints."""

    exit_code = 2

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package '{package}'. Install it with: "
            f"pip install 'fusechat[{extra}]'"
        )


class WorkspaceBusyError(FusechatError):
    """Another run holds the workspace; wait for it, or use another workspace."""


class WorkspaceError(FusechatError):
    """The workspace's folder cannot be made or written; mended by who calls."""


class PartError(FusechatError):
    """A part could not be opened, or broke the row-wise contract; mended in the part."""


class SourceError(FusechatError):
    """The servers of a source are gone or are not what was asked for. No row is at fault: the unit
    stops with its rows unanswered, and goes on from there when whoever runs them has mended it."""


class TooManyErrorsError(FusechatError):
    """More rows of a unit failed than `max_error_share` allows; names the commonest reasons."""


class StaleInputError(FusechatError):
    """A table changed after a unit read it; mended by running the unit again."""


class DamagedError(FusechatError):
    """A file of a workspace is not what was written; mended by having it made again."""

    def __init__(self, path: object, what: str, mend: str = "") -> None:
        mend = mend or "Remove it, and the manifest.json of its unit's folder"
        super().__init__(
            f"{path} is damaged: {what}. {mend}, and run again: what is missing is made anew."
        )


class EmptyError(FusechatError):
    """No prompt or no response is left to work on; says why, and where to look."""


class TrainingError(FusechatError):
    """Training cannot begin or go on: no rows, a loss that is not finite; says which rows."""

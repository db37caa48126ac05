"""Methods: other ways to learn from one pool, as changes of one recipe."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Method(BaseModel):
    """One way to learn from the recipe's pool: what it changes of the recipe as it stands.

    What two methods have in common (prompts, responses, scores, often a training stage) has the
    same keys, and is made once in a workspace.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str = Field(default="", pattern=r"^[^\n]*$")
    """What it is, in one line."""
    set: dict[str, Any] = {}
    """Dotted key -> value, as `--set` takes them (`{train.dpo.loss: {use: simpo}}`); null leaves a
    stage or strategy out. Paths are relative to the recipe."""

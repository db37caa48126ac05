"""Prompts from a data set on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from fusechat.errors import MissingExtraError
from fusechat.parts import Task, UnreadableRow
from fusechat.records import Prompt
from fusechat.settings import HubSetName
from fusechat.tasks._rows import PromptColumns, prompts_of


class Hub(Task):
    """Prompts from a hub data set (or a local folder of one), columns mapped in the recipe."""

    requires: ClassVar[Mapping[str, str]] = {"datasets": "hub"}

    path: HubSetName
    """The data set's id, such as `openbmb/UltraFeedback`, or a folder relative to the recipe."""
    revision: str | None = None
    """The commit; asked for with a hub id, so that the key says which rows these were."""
    name: str | None = None
    """The configuration, where the data set has several."""
    columns: PromptColumns = PromptColumns()
    grade: dict[str, str | float | bool | None] | None = None

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The rows of one split."""
        try:
            from datasets import load_dataset
        except ImportError as error:
            raise MissingExtraError("tasks/hub", "datasets", "hub") from error
        rows = load_dataset(self.path, self.name, split=split, revision=self.revision)
        return prompts_of(_placed(rows, f"{self.path}:{split}"), self.columns, "", "")

    def graded_by(self) -> dict[str, str | float | bool | None] | None:
        """What the recipe says under `grade`."""
        return self.grade

    def faults(self) -> Iterator[tuple[str, str]]:
        """Also: a hub id without a commit."""
        yield from super().faults()
        if not Path(self.path).is_absolute() and self.revision is None:
            yield (
                "revision",
                f"give the commit of {self.path} (40 hex digits, from its page under Files), so "
                "that a later change of the data set is not mistaken for the same data.",
            )


def _placed(rows: Iterable[Any], name: str) -> Iterator[tuple[str, Any]]:
    for number, row in enumerate(rows):
        yield f"{name}[{number}]", row

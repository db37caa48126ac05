"""Prompts from a user's own file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fusechat.columns import column_fault, first_columns, prompt_fault, read_rows
from fusechat.parts import ContentPath, Task, UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._rows import PromptColumns, prompts_of


class Files(Task):
    """Prompts from a JSONL, JSON or Parquet file, columns mapped in the recipe."""

    path: ContentPath
    columns: PromptColumns = PromptColumns()
    grade: dict[str, str | float | bool | None] | None = None
    """The annotator that grades it as a benchmark, as in a recipe: `{use: math_answer}`."""

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """All rows of the file; it has one split."""
        return prompts_of(read_rows(Path(self.path)), self.columns, "", "")

    def graded_by(self) -> dict[str, str | float | bool | None] | None:
        """What the recipe says under `grade`."""
        return self.grade

    def faults(self) -> Iterator[tuple[str, str]]:
        """Also: mapped columns that the file does not have."""
        yield from super().faults()
        path = Path(self.path)
        if not path.exists():
            return
        if isinstance(first := first_columns(path), str):
            yield "path", first
            return
        if self.columns.prompt is None and (fault := prompt_fault(path)):
            yield "path", fault
        for name, spec in self.columns.mapped():
            if fault := column_fault(path, spec):
                yield f"columns.{name}", fault

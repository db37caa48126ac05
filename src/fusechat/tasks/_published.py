"""What the tasks of published prompt sets share: reading their rows, and saying what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fusechat.columns import first_columns
from fusechat.hub_sets import is_file, is_hub_id, rows_of_set
from fusechat.parts import Task, UnreadableRow, package_fault
from fusechat.records import Prompt
from fusechat.settings import HubSetName


class PublishedSet(Task):
    """Base of the published prompt sets; a class says its columns and how a row is a prompt.

    Rows come from the hub at a commit, from a folder of the set's files, or from one file of
    the same columns. Responses that come with a set are not prompts and are passed over.
    """

    columns: ClassVar[tuple[str, ...]]
    """Columns that a row must have."""
    licence: ClassVar[str] = ""
    """As its publisher names it; empty where none is named."""
    seen_commit: ClassVar[str]
    """A commit at which the columns were looked up (in public cards; the hub was not asked)."""
    several_rows: ClassVar[bool] = False
    """Whether a prompt has several rows, one for each response: they are one prompt."""

    path: HubSetName
    """The set's id on the hub, or a folder or file of it, relative to the recipe."""
    revision: str | None = None
    """The commit; asked for with a hub id, so that the key says which rows these were."""

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The prompts of one split, in the set's order; a row that is none says why."""
        seen: set[str] = set()
        for place, row in rows_of_set(self.path, split, self.revision):
            try:
                prompt = self._prompt(self._checked(row))
            except ValueError as error:
                yield UnreadableRow(place, str(error).splitlines()[0])
                continue
            if self.several_rows:
                if prompt.id in seen:
                    continue
                seen.add(prompt.id)
            yield prompt

    def faults(self) -> Iterator[tuple[str, str]]:
        """Also: a hub id without a commit, a path that is none, columns that a file lacks."""
        yield from super().faults()
        yield from set_faults("path", "revision", self.path, self.revision, self.seen_commit)
        if is_file(self.path):
            yield from _column_faults(Path(self.path), self.columns)

    def _prompt(self, row: Mapping[str, Any]) -> Prompt:
        """The prompt of a row; raises `ValueError` with a short reason where it is none."""
        raise NotImplementedError

    def _checked(self, row: Any) -> Mapping[str, Any]:
        if not isinstance(row, Mapping):
            raise ValueError("not JSON" if isinstance(row, ValueError) else "row is not an object")
        missing = [name for name in self.columns if name not in row]
        if missing:
            raise ValueError(f"no column '{missing[0]}'")
        return row

    def _of(self, messages: Sequence[Mapping[str, str]] | str, **fields: Any) -> Prompt:
        """A prompt of this set's domain and licence."""
        return Prompt.of(messages, domain=self.domain or "", licence=self.licence, **fields)


def set_faults(
    path_key: str, revision_key: str, path: str, revision: str | None, seen_commit: str = ""
) -> Iterator[tuple[str, str]]:
    """What is wrong with a `HubSetName` and its commit, as (setting, message with the mend)."""
    if Path(path).is_absolute():
        if not is_file(path) and (fault := package_fault("datasets", "hub")):
            yield "use", fault
        return
    if not is_hub_id(path):
        yield path_key, f"there is nothing at '{path}' beside the recipe, and it is no hub id."
        return
    if fault := package_fault("datasets", "hub"):
        yield "use", fault
    if revision is None:
        known = f"; {seen_commit} is one" if seen_commit else ""
        yield (
            revision_key,
            f"give the commit of {path} (40 hex digits, from its page under Files{known}), so that "
            "a later change of the data set is not mistaken for the same data.",
        )


def text_of(row: Mapping[str, Any], name: str) -> str:
    """The text of a column; raises `ValueError` where it is none or empty."""
    value = row.get(name)
    if not isinstance(value, str):
        raise ValueError(f"'{name}' is not a text")
    if not value.strip():
        raise ValueError("empty prompt")
    return value


def _column_faults(path: Path, wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    first = first_columns(path)
    if isinstance(first, str):
        yield "path", first
        return
    if missing := [name for name in wanted if name not in first]:
        yield "path", f"{path.name} has no column '{missing[0]}'. It has: {', '.join(first)}."

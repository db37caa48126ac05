"""LeetCode problems, with tests from their examples or from a set that has them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, ClassVar

from fusechat.hub_sets import rows_of_set
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.settings import HubSetName
from fusechat.tasks._leetcode import NoTestsError, Signature, example_tests, signature_of
from fusechat.tasks._published import PublishedSet, set_faults, text_of

ASK = "Please complete the following Python code:"


class Leetcode(PublishedSet):
    """Problems of greengerong/leetcode (2,360; MIT on its card, statements LeetCode's).

    FuseChat-3.0 has 3,113 prompts of it: 1,877 for SFT, 1,236 for DPO (README, Dataset): more
    than it has problems, and it has no tests; how either was done is not stated. Columns `id`,
    `slug`, `title`, `difficulty`, `content`, `java`, `c++`, `python`, `javascript`, one split
    `train`: read in a public copy of its file. Tests come from `tests_from` by slug or number,
    else from the worked examples in `content`; a problem without is left out with the reason.
    Examples are two or three a problem: what passes them is likelier right than not, no more.
    The empty method follows the statement, as on the site. The set's solutions are no reference:
    some are of other problems.
    """

    domain: ClassVar[str | None] = "code"
    columns: ClassVar[tuple[str, ...]] = ("slug", "content", "python")
    licence: ClassVar[str] = "mit"
    seen_commit: ClassVar[str] = "00f2d466dc0f00f65a0b6938c4c11a57f721db81"

    path: HubSetName = "greengerong/leetcode"
    tests_from: HubSetName | None = None
    """A set with tests (columns `task_id`, `test`, `entry_point`, `prompt`, as in
    newfacade/LeetCodeDataset): its hub id, a folder or a file."""
    tests_revision: str | None = None
    """Its commit."""
    tests_split: str = "train"
    examples: bool = True
    """Whether worked examples are tests where `tests_from` has none."""

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The problems with tests, in the set's order; the others say why they have none."""
        _joined.cache_clear()
        return super().prompts(split)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Also: a set of tests without its commit, no tests at all, tests of an unshown method."""
        yield from super().faults()
        if self.tests_from is None:
            if not self.examples:
                yield "examples", "without them and without tests_from no problem has tests."
            return
        yield from set_faults("tests_from", "tests_revision", self.tests_from, self.tests_revision)

    def _prompt(self, row: Mapping[str, Any]) -> Prompt:
        content = text_of(row, "content").strip()
        joined = self._with_tests(row)
        solution = str(row["python"] or "")
        if joined is not None:
            tests, called = _form(joined), _shown(joined) or signature_of(solution)
        elif self.examples:
            try:
                tests, called = example_tests(content, str(row["slug"]), solution)
            except NoTestsError as error:
                raise ValueError(f"no tests: {error}") from error
        else:
            raise ValueError("no tests: not in tests_from")
        if called is None:
            raise ValueError("no tests: what they call is not known")
        return self._of(f"{content}\n\n{ASK}\n\n```python\n{called.starter}\n```", tests=tests)

    def _with_tests(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if self.tests_from is None:
            return None
        known = _joined(self.tests_from, self.tests_split, self.tests_revision)
        return known.get(str(row["slug"])) or known.get(str(row.get("id")))


@lru_cache(maxsize=1)
def _joined(path: str, split: str, revision: str | None) -> Mapping[str, Mapping[str, Any]]:
    """Rows with tests, by slug and by the problem's number."""
    found: dict[str, Mapping[str, Any]] = {}
    for _, row in rows_of_set(path, split, revision):
        if not isinstance(row, Mapping) or not row.get("test"):
            continue
        meta = row.get("meta") or {}
        number = row.get("question_id") or meta.get("question_id")
        for key in (row.get("task_id"), number):
            if key is not None:
                found.setdefault(str(key), row)
    return found


def _form(row: Mapping[str, Any]) -> str:
    """The tests of a joined row, in the form that `code_tests` reads."""
    found = {"test": row["test"], "entry_point": row.get("entry_point"), "setup": row.get("prompt")}
    return json.dumps({key: value for key, value in found.items() if value}, ensure_ascii=False)


def _shown(row: Mapping[str, Any]) -> Signature | None:
    """The method that the site shows, with its types."""
    shown = row.get("starter_code") or (row.get("meta") or {}).get("lang_code")
    if not isinstance(shown, str) or not shown.strip():
        return None
    found = signature_of(f"{shown.rstrip()}\n        pass\n")
    return Signature(found.name, found.parameters, shown) if found else None

"""IFEval: instructions that a program can check, all of them followed or not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from fusechat.annotators._ifeval_checks import UncheckedError, followed, followed_loosely
from fusechat.parts import Annotator, Where, Work
from fusechat.records import Candidate, Score

_NO_LANGUAGE = "langdetect is not installed"


class IfEval(Annotator):
    """Whether a response follows every instruction of its prompt, as it stands: 1.0 or 0.0.

    Zhou et al., arXiv 2311.07911: the prompt-level strict reading. `Prompt.checker` is JSON with
    `instruction_id_list` and `kwargs`, as in the publisher's file; the 25 kinds are in
    `_ifeval_checks`. `details`: `instructions` (their names), `strict` and `loose` (of each,
    whether it is followed, by the response as it stands and by any of its variants without first
    line, last line and asterisks).

    Unscorable are a failed response, without `grade_cut` one that is cut or empty, a prompt without
    instructions, and all prompts with an instruction about language where langdetect (the extra
    `ifeval`) is not installed. Instructions that cannot be read are an error.
    """

    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("checker",)

    grade_cut: bool = False
    """Whether cut and empty responses are graded as they stand, as the publisher does."""

    def open(self, where: Where) -> AbstractContextManager[Work]:
        """Nothing heavy: each row is judged by itself."""

        def work(rows: Iterator[Any]) -> Iterator[Any]:
            return (self._judge(row) for row in rows)

        return nullcontext(work)

    def _judge(self, row: Candidate) -> Score:
        given = _given(row.prompt.checker)
        if given is None:
            return row.unscorable("the prompt has no instructions to check")
        names = [str(name) for name in given["instruction_id_list"]]
        details: dict[str, Any] = {"instructions": names}
        finish, text = row.response.finish, row.response.text
        if finish == "error" or (not row.response.whole and not self.grade_cut):
            why = f"response {finish}" if finish in ("error", "length") else "response empty"
            return row.unscorable(why, details=json.dumps(details))
        try:
            strict = followed(names, given["kwargs"], text)
            loose = followed_loosely(names, given["kwargs"], text)
        except UncheckedError as error:
            told = json.dumps({**details, "message": error.details}, ensure_ascii=False)
            refuse = row.unscorable if error.reason == _NO_LANGUAGE else row.error
            return refuse(error.reason, details=told)
        details |= {"strict": strict, "loose": loose}
        return row.score(float(all(strict)), details=json.dumps(details))


def _given(checker: str | None) -> Mapping[str, Any] | None:
    """The instructions of a prompt; None where its `checker` is not of this form."""
    try:
        found = json.loads(checker or "null")
    except ValueError:
        return None
    if not isinstance(found, Mapping):
        return None
    lists = (found.get("instruction_id_list"), found.get("kwargs"))
    both = all(isinstance(one, list) and one for one in lists)
    plain = both and all(isinstance(given, Mapping) for given in found["kwargs"])
    return found if plain else None

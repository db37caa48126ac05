"""Multiple-choice questions: the letter that a response settles on, against the gold one.

FuseChat-3.0's way of reading a letter is in `_choice_paper`, ours in `_choice_stated`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from string import ascii_uppercase
from typing import Any, ClassVar, Literal

from fusechat.annotators._choice_paper import paper_guess, paper_letter
from fusechat.annotators._choice_stated import stated_letter
from fusechat.parts import Annotator, Where, Work
from fusechat.records import Candidate, Score

_TOLD = 200
"""Characters of a statement that a score's details keep."""


class MultipleChoice(Annotator):
    """Whether a response settles on the gold letter of its multiple-choice question: 1.0 or 0.0.

    `robust`: what the response states last as its answer ("the best answer is C", "Answer: (C)",
    a boxed letter or option text, a last line of one letter, or else an option's text) counts,
    and must be one option of the item. A whole response that states none, or more than one at
    once, is wrong, with the reason "no final answer". `paper`: FuseEval's three expressions, and
    where none of them finds a letter a guess with the seed 12345, with the reason "guessed".

    `details`: `answer` (the letter, or null), `gold`, `how` it was found, and `parsed`, which is
    false where no letter was found; a guess is under `guess`. `Prompt.answer` is the gold letter,
    or several with commas between them, each of which is right; `Prompt.choices` the options. A
    prompt without them, a failed response and, without `grade_cut`, one that is cut or empty is
    unscorable.
    """

    needs: ClassVar[tuple[str, ...]] = ("choices", "answer")

    profile: Literal["paper", "robust"] = "robust"
    """Whose extraction: FuseEval's, or the robust one."""
    grade_cut: bool = False
    """Whether cut and empty responses are graded as they are, which FuseEval does."""
    stop: tuple[str, ...] = ()
    """A response is read up to the first of these, as if its model had been stopped there: for
    sources that cannot stop at a text. One that holds any of them counts as whole."""

    def open(self, where: Where) -> AbstractContextManager[Work]:
        """Nothing heavy: each row is judged by itself."""

        def work(rows: Iterator[Any]) -> Iterator[Any]:
            return (self._judge(row) for row in rows)

        return nullcontext(work)

    def _judge(self, row: Candidate) -> Score:
        options = row.prompt.choices or ()
        gold = _gold(row.prompt.answer, len(options))
        if gold is None:
            return row.unscorable("no options, or no gold letter among them")
        finish = row.response.finish
        text, stopped = _until(row.response.text, self.stop)
        cut = finish == "length" and not stopped
        if finish == "error" or ((cut or not text.strip()) and not self.grade_cut):
            why = f"response {finish}" if cut or finish == "error" else "response empty"
            return row.unscorable(why)
        read = _paper if self.profile == "paper" else _robust
        answer, reason, details = read(text, options)
        told = {**details, "gold": ",".join(gold)}
        value = 1.0 if answer in gold else 0.0
        return row.score(value, reason, details=json.dumps(told, ensure_ascii=False))


Reading = tuple[str | None, str, dict[str, Any]]
"""The letter that is held against the gold one, a score's reason, and its details."""


def _paper(text: str, options: Sequence[str]) -> Reading:
    letter, how = paper_letter(text)
    if letter is not None:
        return letter, "", {"answer": letter, "how": how, "parsed": True}
    guess = ascii_uppercase[paper_guess(len(options))]
    return guess, "guessed", {"answer": None, "guess": guess, "parsed": False}


def _robust(text: str, options: Sequence[str]) -> Reading:
    found = stated_letter(text, options)
    details = {"answer": found.letter, "how": found.how, "parsed": found.letter is not None}
    if found.letter is not None:
        return found.letter, "", details
    if found.words:
        details["stated"] = found.words[:_TOLD]
    return None, "no final answer", details


def _until(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the first of `stop`, and whether one is there."""
    places = [place for one in stop if (place := text.find(one)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _gold(answer: str | None, options: int) -> tuple[str, ...] | None:
    letters = tuple(part.strip() for part in (answer or "").split(","))
    known = ascii_uppercase[:options]
    right = all(len(letter) == 1 and letter in known for letter in letters)
    return letters if right and options <= len(ascii_uppercase) else None

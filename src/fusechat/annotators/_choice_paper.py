"""FuseEval's way to read a letter out of a response, quirks and all. Pure.

As FuseChat-3.0's evaluation (FuseEval/General-Eval/MC-Eval/evaluate_from_local.py) does it, and
MMLU-Pro's before it. What it is known to get wrong is kept:

- the *first* "answer is X" counts, also where the text goes on "... if", or takes it back;
- "Answer is" and "ANSWER:" are not seen, "answer is a)" is not either;
- the last lone capital of the text counts, a pronoun as well: "I cannot decide." is I;
- letters go to J whatever the item has, so that I is read of an item with four options;
- a text without any such letter gets a guess.
"""

from __future__ import annotations

import random
import re

_STATED = re.compile(r"answer is \(?([A-J])\)?")
_MARKED = re.compile(r"[aA]nswer:(?=\s*([A-J]))")
_LONE = re.compile(r"\b[A-J]\b")
SEED = 12345


def paper_letter(text: str) -> tuple[str | None, str]:
    """The letter (`A` to `J`, also one that the item has not) and how it was found."""
    if found := _STATED.search(text):
        return found.group(1), "answer is"
    if letter := _marked(text):
        return letter, "answer:"
    lone = _LONE.findall(text)
    return (lone[-1], "last capital") if lone else (None, "")


def _marked(text: str) -> str | None:
    """The last "answer: X" of the first line that has one, the letter on it or below it.

    What `.*[aA]nswer:\\s*([A-J])` finds, without its time, which is quadratic in long lines.
    """
    found = list(_MARKED.finditer(text))
    if not found:
        return None
    ends = text.find("\n", found[0].start())
    line = [one for one in found if ends < 0 or one.start() < ends]
    return line[-1].group(1)


def paper_guess(options: int) -> int:
    """The place of the option that is guessed, from 0.

    FuseEval seeds its generator again for each item, so that the guess is the same for all items
    with as many options, whatever stands before them.
    """
    return random.Random(SEED).randint(0, options - 1)

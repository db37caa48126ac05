"""LiveBench's reasoning tasks: spatial, web_of_lies_v2 and zebra_puzzle, all 1 or 0.

The rules are those of the publisher's graders at the release of 2024-08-31, when all three asked
for an answer in bold; tags `<solution>` came with the questions of 2024-11-25.
"""

from __future__ import annotations

import re

from fusechat.annotators._live_question import Graded, Question, last_boxed

_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen", "twenty",
)  # fmt: skip
_SHAPES = ("tetrahedra", "tetrahedron", "triangle", "square")


def spatial(question: Question, response: str) -> Graded:
    """Whether one of the last three bold texts is the answer, or else the last box.

    A number may be spelled out up to twenty. Of four shapes a longer text counts that holds the
    name and is shorter than twice the name and 5 characters: `equilateral triangle`.
    """
    truth = question.answer.strip().lower()
    bold = [text.strip().lower() for text in re.findall(r"\*\*([^*]+)\*\*", response)[-3:]]
    for text in reversed(bold):
        named = truth in _SHAPES and truth in text and len(text) < 2 * len(truth) + 5
        if text == truth or _spelled(text) == truth or named:
            return Graded(1.0, text)
    box = last_boxed(response)
    if box is not None and box == question.answer:
        return Graded(1.0, box)
    return Graded(0.0, bold[-1] if bold else box)


def _spelled(text: str) -> str | None:
    return str(_SMALL.index(text)) if text in _SMALL else None


def web_of_lies(question: Question, response: str) -> Graded:
    """Whether the last bold text is the three answers, or holds them and no fourth.

    Bold does not run over a line's end, and only the last one counts: `**yes**, **no**, **yes**`
    is wrong. Words are counted as parts of words: `know` counts as a `no`.
    """
    bold = re.findall(r"\*\*(.*?)\*\*", response)
    if not bold:
        return Graded(0.0)
    last, truth = bold[-1].lower(), question.answer.lower()
    three = last.count("yes") + last.count("no") == 3
    return Graded(float(last == truth or (three and truth in last)), bold[-1])


def zebra_puzzle(question: Question, response: str) -> Graded:
    """Whether the last single word in `***X***` is the answer; without any, the last word.

    A digit may stand for a number word, and the word before ` movies` for both. By the rules of
    autumn 2024 a word has letters, digits and underscores only, so that the three answers
    `security-guard`, `police-officer` and `d&b` are never right; corrected, anything may stand
    between the stars. Questions from 2024-11-25 on ask for several answers in `<solution>` tags:
    half the score for the share that is right, half for all of them.
    """
    if question.release >= "2024-11-25":
        return _zebra_in_tags(question, response)
    letters, inner = (r"[\w&-]+", r"[^*]+") if question.corrected else (r"\b\w+\b", r"\w+")
    found = re.findall(rf"\*\*\*({inner})\*\*\*", response) or re.findall(letters, response)
    if not found:
        return Graded(0.0)
    plain = _plain if question.corrected else str.lower
    word, truth = plain(found[-1]), plain(question.answer)
    spelled = _SMALL[int(word)] if word in set("123456789") else None
    return Graded(float(truth in (word, f"{word} movies", spelled)), found[-1])


def _zebra_in_tags(question: Question, response: str) -> Graded:
    truth = [_plain(word) for word in question.answer.split(",")]
    tags = re.findall(r"<solution>(.*?)</solution>", response)
    tags = tags or re.findall(r"</solution>(.*?)</solution>", response)
    if not tags:
        box = last_boxed(response)
        lines = response.strip().split("\n")
        if box is not None:
            tags = [box.replace("\\text{", "").replace("}", "").replace("\\", "")]
        elif lines[-1].count(",") == len(truth) - 1:
            tags = [lines[-1]]
    if not tags:
        return Graded(0.0)
    given = ",".join(tags).split(",")
    given = given[-len(truth) :] if len(tags) > 1 else given
    pairs = zip(truth, map(_plain, given), strict=False)
    share = sum(wanted in word.replace("position", "") for wanted, word in pairs) / len(truth)
    return Graded((float(share == 1.0) + share) / 2, ",".join(given))


def _plain(word: str) -> str:
    return word.strip().lower().replace("-", " ")

"""LiveBench's mathematics: competitions, proofs whose formulas are to be ordered, and AMPS_Hard.

AMPS_Hard is only read here; whether two formulas are equal is found out by `_live_equal`.
"""

from __future__ import annotations

import re

from fusechat.annotators._live_question import (
    Graded,
    NotGradedError,
    Question,
    edit_distance,
    last_boxed,
)


def math_comp(question: Question, response: str) -> Graded:
    """AMC and SMC by letter, AIME by number; which it is, the subtask says."""
    parts = question.subtask.split("_")
    if parts[0] == "aime":
        return _aime(question, response)
    if parts[0] in ("amc", "smc") or "amc" in parts[1:2]:
        return _letter(question, response)
    raise NotGradedError("unknown kind of question", question.subtask)


def _aime(question: Question, response: str) -> Graded:
    """Whether the three digits are within the last 20 characters.

    By the rules of autumn 2024 also as a part of a longer number; corrected, by themselves.
    """
    tail = response[-20:]
    found = _alone(question.answer, tail) if question.corrected else question.answer in tail
    return Graded(float(found), tail or None)


def _letter(question: Question, response: str) -> Graded:
    """Whether the right letter is there four times in a row (five are asked for), or alone in the
    last box; or the value behind that letter in the question stands at the response's end, with
    at most 20 characters more, though no letter was written.

    By the rules of autumn 2024 any such run counts, also beside one of another letter, and the
    value also as a part of another: `5` in `15`, which a quarter of the questions let happen.
    Corrected, the last run counts, and the value where there is no run, by itself.
    """
    letter = question.answer
    if not re.fullmatch("[A-E]", letter):
        raise NotGradedError("gold answer is no letter")
    runs = re.findall(r"A{4,}|B{4,}|C{4,}|D{4,}|E{4,}", response)
    stated = runs[-1:] if question.corrected else runs
    if any(run.startswith(letter) for run in stated):
        return Graded(1.0, letter * 4)
    if (box := last_boxed(response)) == letter:
        return Graded(1.0, box)
    value = _value_of(letter, question.text)
    if value is None or (question.corrected and runs):
        return Graded(0.0, runs[-1] if runs else box)
    tail = response[-(20 + len(value)) :]
    found = _alone(value, tail) if question.corrected else value in tail
    return Graded(float(found), value if found else runs[-1] if runs else box)


def _alone(value: str, text: str) -> bool:
    """Whether a value is in a text, and no part of a longer number or word."""
    return re.search(rf"(?<![\w.]){re.escape(value)}(?!\w|\.\d)", text) is not None


def _value_of(letter: str, question: str) -> str | None:
    """What the question writes behind `\\textbf{(letter)}`; None where that cannot be read."""
    found = dict(re.findall(r"\\textbf{\(([A-E])\)\s?}(.*?)(?:\\qquad|\$)", question))
    value = found.get(letter, "").strip()
    return value.strip("$").strip("~") if value else None


def olympiad(question: Question, response: str) -> Graded:
    """1 - edit distance of the two lists of numbers / length of the longer one.

    The response's list is what follows its last `Answer`, cut at commas. From each piece the first
    run of digits is taken; after the first piece the list ends at one that holds anything else. A
    digit below the line is no number and no end.
    """
    try:
        truth = [int(number) for number in question.answer.split(",")]
    except ValueError as error:
        raise NotGradedError("gold answer is no list of numbers") from error
    given: list[int] = []
    for place, piece in enumerate(response.rpartition("Answer")[2].split(",")):
        clean = piece.strip()
        found = re.search("[0-9₀-₉]+", clean)
        digits = found.group() if found else ""
        if digits.isdecimal():
            given.append(int(digits[:18]))
        if place > 0 and clean != digits:
            break
    share = 1 - edit_distance(given, truth) / max(len(given), len(truth))
    return Graded(share, ", ".join(map(str, given)) or None)


def formula(question: Question, response: str) -> str | None:
    """The formula in a response's last box, made plain; None without a box.

    Constants of integration are left out, of `a = b` what follows the last sign is taken, and
    thousands' commas go. By the rules of autumn 2024 `\\sqrt[3]{2}` becomes `\\sqrt{[}3]{2}`,
    which nothing can read, so that every answer with such a root is wrong; corrected, it stays.
    """
    text = response
    for constant in ("+C", "+ C", *(("+c", "+ c") if question.corrected else ())):
        text = text.replace(constant, "")
    box = last_boxed(text)
    return None if box is None else _plain(box, question.corrected)


def _plain(text: str, corrected: bool) -> str:
    text = text.rpartition("=")[2]
    if "$" in text:
        text = re.sub(r"(.*?)(\$)(.*?)(\$)(.*)", "$\\3$", text)
    for name in ("text", "textbf", "overline"):
        text = re.sub(r"(\\" + name + r"\{)(.*?)(\})", r"\2", text)
    text = re.sub(r"(\\boxed\{)(.*)(\})", r"\2", text)
    if corrected:
        text = re.sub(r"\\[,;!]|\\displaystyle", " ", text).replace("\n", " ")
    text = re.sub(r"frac([^{\s])(.)" if corrected else r"frac([^{])(.)", r"frac{\1}{\2}", text)
    text = re.sub(r"sqrt([^{\[\s])" if corrected else r"sqrt([^{])", r"sqrt{\1}", text)
    text = text.replace("$", "")
    return text.replace(",", "") if text.replace(",", "").isdigit() else text

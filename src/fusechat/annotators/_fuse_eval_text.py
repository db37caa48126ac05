"""How FuseChat-3.0's evaluation reads the final answer out of a response, and writes it plainly.

Written anew from what its Math-Eval does (a fork of Qwen2.5-Math's evaluation), quirks included:
`50\\%` becomes `50`, `5\\text{ cm}` becomes `5`, `x=5` becomes `5`, and where nothing is marked as
the answer, the last number of the text is taken.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"-?\d*\.?\d+")


def extract(response: str) -> str:
    """The final answer of a response in plain writing; empty where there is no number at all.

    In this order: the last box, what follows the last "he answer is", the last "final answer is",
    "答案是", the last number.
    """
    return plain(_tidied(_stated(response)))


def _stated(response: str) -> str:
    if "final answer is $" in response and "$. I hope" in response:
        return response.split("final answer is $", 1)[1].split("$. I hope", 1)[0].strip()
    if "boxed" in response:
        return _in_box(response.rpartition("boxed")[2])
    for mark in ("he answer is", "final answer is"):
        if mark in response:
            return response.rpartition(mark)[2].strip()
    if "答案是" in response:
        return response.split("答案是")[1].strip().split("\n\n")[0].strip()
    numbers = _NUMBER.findall(response.replace(",", ""))
    return numbers[-1] if numbers else ""


def _in_box(rest: str) -> str:
    """What stands in the braces; without them, what is left of the formula."""
    if not rest.startswith("{"):
        return rest.split("$", maxsplit=1)[0].strip()
    depth = 0
    for at, sign in enumerate(rest):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if not depth:
            return rest[1:at]
    return rest[1:]


def _tidied(answer: str) -> str:
    answer = re.sub(r"\n\s*", "", answer)
    answer = answer.removeprefix(":")
    return answer.removesuffix(".").removesuffix("/")


_SPELT = (
    ("\n", ""), ("\\!", ""), ("tfrac", "frac"), ("dfrac", "frac"), ("\\neq", "\\ne"),
    ("\\leq", "\\le"), ("\\geq", "\\ge"), ("\\left", ""), ("\\right", ""), ("\\{", "{"),
    ("\\}", "}"),
)  # fmt: skip
_REMOVED = ("^{\\circ}", "^\\circ", "\\$", "$", "\\(", "\\)")
_PREFIXES = ("x=", "y=", "z=", "x\\in", "y\\in", "z\\in", "x\\to", "y\\to", "z\\to")
_UNITS = (
    "degrees?|mph|kmph|ft|m square|east|squaremiles?|miles?|km|cm|mm|meters?|metres?|feet|foot|"
    "inch(?:es)?|hours?|minutes?|seconds?|days?|weeks?|months?|years?|dollars?|cents?|rupees|"
    "pounds?|grams?|kg|gallons?|liters?|litres?|units?|people|students?|items?|points?|times"
)
_UNIT = re.compile(rf"(^|\W)(?:{_UNITS})($|\W)")
_WORDS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
         "eleven", "twelve")
    )
}  # fmt: skip


def plain(answer: str) -> str:
    """An answer in the plain writing in which two are compared."""
    text = answer.strip().rstrip(".")
    text = re.sub(r"\\begin\{array\}\{.*?\}", r"\\begin{pmatrix}", text)
    text = text.replace("\\end{array}", "\\end{pmatrix}").replace("bmatrix", "pmatrix")
    for old, new in _SPELT:
        text = text.replace(old, new)
    text = _without_words(text)
    for removed in _REMOVED:
        text = text.replace(removed, "")
    text = _WORDS.get(text.strip().lower(), text)
    text = re.sub(r"\\text\{(.*?)\}", r"\1", text)
    for prefix in _PREFIXES:
        text = text.replace(prefix, "")
    text = text.replace("\\emptyset", "{}").replace("(-\\infty,\\infty)", "\\mathbb{R}")
    text = text.replace("\\%", "").replace("%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    text = _infinite(text)
    for removed in ("and", "\\mathbf"):
        text = text.replace(removed, "")
    text = re.sub(r"\\mbox\{.*?\}", "", text).replace("'", "").replace('"', "")
    if "j" in text and "i" not in text:
        text = text.replace("j", "i")
    text = re.sub(r"(\d+)\.0+([^\d])", r"\1\2", text)
    text = re.sub(r"(\d+)\.0+$", r"\1", text)
    return _numbers(text)


def _without_words(text: str) -> str:
    """Without a unit at the end, in a text box or in plain words."""
    shorter = re.sub(r"\\text\{.*?\}$", "", text).strip()
    text = shorter or text
    bare = _UNIT.sub(r"\1\2", text)
    return bare if bare.strip() else text


def _infinite(text: str) -> str:
    text = text.replace("infinity", "\\infty")
    if "\\infty" not in text:
        text = text.replace("inf", "\\infty")
    return text.replace("+\\infty", "\\infty")


def _numbers(text: str) -> str:
    if not text:
        return text
    if text.startswith("."):
        text = "0" + text
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    text = re.sub(r"\\sqrt(?!\{)\s*(\w)", r"\\sqrt{\1}", text).replace(" ", "")
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac(\d)\{", r"\\frac{\1}{", text)
    text = re.sub(r"\\frac(\{[^{}]*\})(\d)", r"\\frac\1{\2}", text)
    return re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", text)

"""Which prompts a set leaves out: by topic, and because a test set has them. Pure.

FuseChat-3.0 says that code and mathematics were taken out of its instruction sets, not how;
it says nothing of test prompts among the training prompts. Both are off by default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from fusechat.records import Prompt

Topic = Literal["code", "math"]

_LANGUAGES = (
    r"python|java(?:script)?|typescript|c\+\+|c#|golang|rust|ruby|php|perl|matlab|kotlin|swift|scala"
    r"|bash|powershell|sql|html|css|latex"
)
_CODE = re.compile(
    rf"```|#include\s*<|\bdef \w+\(|\bclass \w+[:({{]|\bimport \w+\n|;\s*\n\s*}}"
    rf"|<\w+(?: [^>]*)?>.*</\w+>"
    rf"|\bselect\b.+\bfrom\b.+\b(?:where|group by|order by|join)\b"
    rf"|\b(?:write|create|implement|code|develop|debug|fix|refactor|optimi[sz]e|complete|generate)\b"
    rf"[^.?!\n]{{0,60}}\b(?:function|method|program|class|query|code|regex|algorithm|api|{_LANGUAGES})(?!\w)"
    rf"|\b(?:in|using|with) (?:{_LANGUAGES})(?!\w)"
    rf"|编程|代码|函数.{{0,10}}(?:实现|编写)|(?:编写|实现|写).{{0,20}}(?:程序|脚本|代码|算法)",
    re.IGNORECASE | re.DOTALL,
)
_MATH = re.compile(
    r"\\(?:frac|sqrt|sum|int|boxed|begin\{[a-z]*matrix|cdot|times|leq?|geq?|pi|theta|angle)\b"
    r"|\$[^$\n]*[\d=^\\][^$\n]*\$"
    r"|(?<![\w-])\d+(?:\.\d+)?\s*[-+*/×÷^=<>]\s*\(?\s*\d+(?:\.\d+)?\s*[-+*/×÷^=?]"
    r"|\b(?:solve|simplify|factor|differentiate|integrate|evaluate|calculate|compute|prove|find)\b"
    r"[^.?!\n]{0,60}\b(?:equations?|inequalit(?:y|ies)|integrals?|derivatives?|polynomials?|matri(?:x|ces)"
    r"|triangles?|probability|probabilities|perimeter|area|volume|median|sum of|value of|x|roots?"
    r"|remainder|gcd|lcm|determinant|limit)\b"
    r"|方程|求解|计算.{0,12}\d|概率|面积是|多少(?:元|个|米|千米|公里)",
    re.IGNORECASE | re.DOTALL,
)
_NUMBERS = re.compile(r"(?<![\w.])\$?\d[\d,]*(?:\.\d+)?%?(?!\w|\.\d)")
_ASKS_HOW_MANY = re.compile(
    r"\b(?:how (?:many|much|long|far|old|fast)|what (?:percent\w*|fraction|is the (?:total|cost|"
    r"number|average|probability|value|ratio|difference)))\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W\u3400-\u9fff\uf900-\ufaff]+")


def topics_of(prompt: Prompt) -> tuple[Topic, ...]:
    """Topics that the user's turns are about, by rule: their words, formulas and code.

    A word problem counts as mathematics where it asks how many and names two numbers.
    """
    text = "\n".join(turn.content for turn in prompt.messages if turn.role == "user")
    found: list[Topic] = []
    if _CODE.search(text):
        found.append("code")
    numbers = len(_NUMBERS.findall(text))
    if _MATH.search(text) or (numbers >= 2 and _ASKS_HOW_MANY.search(text)):
        found.append("math")
    return tuple(found)


def words_of(prompt: Prompt) -> list[str]:
    """The words of the user's turns, without case and marks; a Chinese character is one word."""
    text = " ".join(turn.content for turn in prompt.messages if turn.role == "user")
    return _WORD.findall(text.casefold())


class HeldOutPrompts:
    """The prompts of test sets, as their runs of `ngram` words; shorter ones stand whole."""

    def __init__(self, prompts: Iterable[Prompt], ngram: int) -> None:
        self._ngram = ngram
        self._runs: set[tuple[str, ...]] = set()
        self._whole: set[tuple[str, ...]] = set()
        for prompt in prompts:
            words = words_of(prompt)
            if words:
                self._whole.add(tuple(words))
            self._runs.update(_runs(words, ngram))

    def shares(self, prompt: Prompt) -> str:
        """The words that a prompt shares with a test prompt; empty where it shares none.

        That is a run of `ngram` words, or all its words where they are a whole test prompt.
        """
        words = words_of(prompt)
        if tuple(words) in self._whole:
            return " ".join(words)
        shared = next((run for run in _runs(words, self._ngram) if run in self._runs), ())
        return " ".join(shared)


def _runs(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[at : at + length]) for at in range(len(words) - length + 1))

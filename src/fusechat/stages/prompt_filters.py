"""Which prompts a set leaves out: by topic, language, missing tests, test sets, likeness. Pure.

FuseChat-3.0 says that code and mathematics were taken out of its instruction sets, not how;
it says nothing of test prompts among the training prompts, nor of prompts that are nearly the
same. All are off by default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fusechat.metrics.near_duplicates import Array, Sets, Shingler, alike
from fusechat.records import Prompt

Topic = Literal["code", "math"]
Needed = Literal["tests", "answer", "reference"]

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
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_KANA = re.compile(r"[\u3040-\u30ff]")
_LEAST_HAN, _MOST_KANA = 0.5, 0.02
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


def is_chinese(prompt: Prompt) -> bool:
    """Whether at least half of the letters of the user's turns are Han, and hardly any kana."""
    text = "".join(turn.content for turn in prompt.messages if turn.role == "user")
    letters = sum(char.isalpha() for char in text)
    han, kana = len(_HAN.findall(text)), len(_KANA.findall(text))
    return han >= max(1.0, _LEAST_HAN * letters) and kana <= _MOST_KANA * letters


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


class NearDuplicates(BaseModel):
    """Which prompts are nearly the same: by their runs of words, all turns together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(default=0.8, ge=0.2, le=1)
    """Least Jaccard similarity of the two sets of runs."""
    shingle: int = Field(default=3, ge=1)
    """Words of a run; a Chinese character is a word. A shorter prompt is one run."""


@dataclass
class Likeness:
    """Finds prompts that are nearly one that was kept before; exact but for what
    `metrics/near_duplicates` says."""

    settings: NearDuplicates
    uncompared: int = 0
    """At most so many pairs of prompts were not compared."""
    _ids: list[str] = field(default_factory=list)
    _sets: list[Array] = field(default_factory=list)
    _shingles: Shingler | None = None

    def keep(self, prompts: Iterable[Prompt]) -> None:
        """Remember prompts that were kept."""
        for prompt in prompts:
            self._ids.append(prompt.id)
            self._sets.append(self._set_of(prompt))

    def like_earlier(self, prompts: Sequence[Prompt]) -> dict[str, tuple[str, float]]:
        """Prompts that are nearly a kept one or an earlier one here: id -> (that id, similarity).

        An earlier one that is dropped itself drops none. Where several are alike, the one told
        is the most alike, then the earliest.
        """
        sets = [*self._sets, *map(self._set_of, prompts)]
        ids = [*self._ids, *(prompt.id for prompt in prompts)]
        found = alike(Sets.of(sets), self.settings.threshold)
        self.uncompared += found.uncompared
        rivals: dict[int, list[tuple[float, int]]] = {}
        for left, right, jaccard in zip(found.left, found.right, found.jaccard, strict=True):
            rivals.setdefault(int(right), []).append((-float(jaccard), int(left)))
        dropped: dict[int, tuple[str, float]] = {}
        for at in sorted(at for at in rivals if at >= len(self._ids)):
            kept = [rival for rival in rivals[at] if rival[1] not in dropped]
            if kept:
                likeness, other = min(kept)
                dropped[at] = ids[other], -likeness
        return {ids[at]: pair for at, pair in dropped.items()}

    def _set_of(self, prompt: Prompt) -> Array:
        if self._shingles is None:
            self._shingles = Shingler(self.settings.shingle)
        return self._shingles.of("\n".join(turn.content for turn in prompt.messages))

"""A judge that knows nothing: for trying the benchmarks' pipeline out, and for tests.

It answers in the formats that the judges of AlpacaEval 2, Arena-Hard, MT-Bench and AlignBench are
asked for, by a rule on the looks of a response. Its verdicts say nothing of any model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pydantic import Field

from fusechat.digests import digest
from fusechat.metrics.words import words_of
from fusechat.parts import Source, Where
from fusechat.records import Request, Response

FULL = 80
"""Different words from which on more of them count no further."""
TIE, STRONG = 0.05, 0.5
"""Differences of worth below which two responses tie, and from which on one is much better."""
SLOPE = 6.0
"""Log-odds of a preference for a difference of worth of 1."""
_OVERALL = "综合得分"
_LABELS = re.compile(r"\[\[[AB]>+[AB]\]\]")
_RATING = re.compile(r"\[\[(?:rating|5)\]\]")
_IDENTIFIERS = re.compile(r'"model_identifier"\s*:\s*"[mM]"')
_OUTPUT = r'\s*,?\s*(?:"output"\s*:\s*"*)?'
_FIRST = re.compile(rf'Start of Assistant A[^\n]*\n|"model_identifier"\s*:\s*"m"{_OUTPUT}')
_SECOND = re.compile(rf'Start of Assistant B[^\n]*\n|"model_identifier"\s*:\s*"M"{_OUTPUT}')
_ALONE = re.compile(r"### Assistant A:\n|Start of Assistant's Answer[^\n]*\n|"
                    r"\[助手的答案开始\]\n|【助手的回答】\n")  # fmt: skip
_END = re.compile(
    r'\n[^\n]*The End of Assistant|\n### |"""\s*\}|\n(?:\[助手的答案结束\]|【回答完】)'
)
_QUESTION = re.compile(r"用户的提问|【用户的问题】")
_DIMENSION = re.compile(r"^\d+\. ([\u4e00-\u9fff]{2,12}): ", re.M)


class ScriptedJudge(Source):
    """Judges by a fixed rule on the looks of a response; needs no model, and knows nothing.

    A response is worth the number of its different words, up to 80. It gives ratings, labels of
    two places, AlignBench's dictionary, or AlpacaEval's `m` / `M` with its log-probabilities,
    whichever the question asks for; a question that asks for none of them gets no verdict.
    """

    model: str = "scripted-judge"
    """The name under which it is filed."""
    off_format: float = Field(default=0.0, ge=0, le=1)
    """Share of its answers without a verdict, on purpose; asked again, it draws anew."""
    failed: float = Field(default=0.0, ge=0, le=1)
    """Share of requests that fail, on purpose."""
    draw: int = 0
    """Another number misbehaves at other questions."""
    top_logprobs: int = Field(default=0, ge=0)
    """Likeliest first tokens told with an `m` / `M`, at most its two; 0: the text alone."""

    def open(
        self, where: Where
    ) -> AbstractContextManager[Callable[[Iterator[Request]], Iterator[Response]]]:
        """Nothing is heavy here."""
        return nullcontext(lambda requests: map(self._answer, requests))

    def sees(self, request: Request) -> Any:
        """The conversation alone."""
        return [request.prompt.chat()]

    def _answer(self, request: Request) -> Response:
        chat = request.prompt.chat()
        chance = int(digest([chat, self.draw])[:12], 16) / 16**12
        if chance < self.failed:
            return request.failure("the scripted judge failed, as its settings ask for")
        if chance < self.failed + self.off_format:
            return _said(request, "Both have their merits, and I would rather not say.")
        text, logprobs = _verdict(chat)
        kept = dict(sorted(logprobs.items(), key=lambda one: -one[1])[: self.top_logprobs])
        details = json.dumps({"top_logprobs": kept}) if kept else None
        return _said(request, text, details)


def worth(text: str) -> float:
    """What the rule makes of a response, in [0, 1]."""
    return min(len(set(words_of(text))), FULL) / FULL


def _said(request: Request, text: str, details: str | None = None) -> Response:
    return request.response(text, "stop", tokens=len(text.split()), details=details)


def _verdict(chat: Sequence[Mapping[str, str]]) -> tuple[str, dict[str, float]]:
    """The judge's words, and log-probabilities of its first token where they matter."""
    asked = next((turn["content"] for turn in chat if turn["role"] == "user"), "")
    rules = "\n".join(turn["content"] for turn in chat if turn["role"] != "assistant")
    if _OVERALL in rules:
        return _dictionary(asked), {}
    if _LABELS.search(rules):
        return f"My final verdict is: [[{_label(_difference(asked))}]]", {}
    if _RATING.search(rules):
        return f"It is what it is. Rating: [[{_rating(_last(asked))}]]", {}
    if len(set(_IDENTIFIERS.findall(rules))) == 2:
        return _token(_difference(asked))
    return "I do not know what is asked of me.", {}


def _until_end(text: str) -> str:
    found = _END.search(text)
    return text[: found.start()] if found else text


def _difference(asked: str) -> float:
    """Worth of the response in place A (`m`) less that of the one in place B (`M`)."""
    first, second = _FIRST.search(asked), _SECOND.search(asked)
    if first is None or second is None:
        return 0.0
    return worth(_until_end(asked[first.end() :])) - worth(_until_end(asked[second.end() :]))


def _last(asked: str) -> str:
    """The response to be rated: the last of a conversation."""
    starts = [found.end() for found in _ALONE.finditer(asked)]
    return _until_end(asked[starts[-1] :]) if starts else asked


def _rating(text: str) -> int:
    return 1 + round(9 * worth(text))


def _label(difference: float) -> str:
    if abs(difference) < TIE:
        return "A=B"
    more = ">>" if abs(difference) >= STRONG else ">"
    return f"A{more}B" if difference > 0 else f"B{more}A"


def _token(difference: float) -> tuple[str, dict[str, float]]:
    first, second = (-math.log1p(math.exp(-SLOPE * d)) for d in (difference, -difference))
    return ("m" if difference >= 0 else "M"), {"m": first, "M": second}


def _dictionary(asked: str) -> str:
    question = _QUESTION.search(asked)
    before = asked[: question.start()] if question else asked
    rating = _rating(_last(asked))
    names = [*dict.fromkeys(_DIMENSION.findall(before)), _OVERALL]
    scores = ", ".join(f"'{name}': {rating}" for name in names)
    return f"就这样吧。\n{{{scores}}}"

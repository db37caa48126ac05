"""Instructions that a rule can check: counts, separators, case, openings, endings, words.

`Prompt.checker` is a JSON list of constraints, each an object with `rule` and its settings:

    [{"rule": "count", "equals": 3}, {"rule": "starts_with", "text": "Sure:"}]

Constraints on items (`count`, `separator`, `case`, `from_pool`, `distinct`) look at the *body*:
the response without the texts that `starts_with` and `ends_with` ask for, where they are there.
An item is what stands between the texts of a `separator` constraint where there is one, else
one word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from fusechat.parts import Annotator, Where, Work
from fusechat.records import Candidate, Score

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_ITEM = re.compile(r"[\w'’-]+(?: [\w'’-]+)*")


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def met(self, text: str, body: str, items: Sequence[str]) -> bool:
        raise NotImplementedError


class _Exact(_Rule):
    rule: Literal["exact"]
    text: str

    def met(self, text: str, body: str, items: Sequence[str]) -> bool:
        return text == self.text.strip()


class _StartsWith(_Rule):
    rule: Literal["starts_with"]
    text: str = Field(min_length=1)

    def met(self, text: str, body: str, items: Sequence[str]) -> bool:
        return text.startswith(self.text)


class _EndsWith(_Rule):
    rule: Literal["ends_with"]
    text: str = Field(min_length=1)

    def met(self, text: str, body: str, items: Sequence[str]) -> bool:
        return text.endswith(self.text)


class _Contains(_Rule):
    rule: Literal["contains"]
    words: tuple[str, ...] = Field(min_length=1)

    def met(self, text: str, body: str, items: Sequence[str]) -> bool:
        return all(_occurs(word, text) for word in self.words)


class _Forbidden(_Rule):
    rule: Literal["forbidden"]
    words: tuple[str, ...] = Field(min_length=1)

    def met(self, text: str, body: str, items: Sequence[str]) -> bool:
        return not any(_occurs(word, text) for word in self.words)


class _Count(_Rule):
    rule: Literal["count"]
    equals: int | None = Field(default=None, ge=0)
    at_least: int | None = Field(default=None, ge=0)
    at_most: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _bounded(self) -> _Count:
        if self.equals is None and self.at_least is None and self.at_most is None:
            raise ValueError("count needs equals, at_least or at_most")
        return self

    def met(self, text: str, body: str, items: Sequence[str]) -> bool:
        count = len(items)
        return (
            (self.equals is None or count == self.equals)
            and (self.at_least is None or count >= self.at_least)
            and (self.at_most is None or count <= self.at_most)
        )


class _Separator(_Rule):
    rule: Literal["separator"]
    text: str = Field(min_length=1)

    def met(self, text: str, body: str, items: Sequence[str]) -> bool:
        return all(_ITEM.fullmatch(item) for item in body.split(self.text))


class _Case(_Rule):
    rule: Literal["case"]
    wanted: Literal["upper", "lower"] = Field(alias="is")

    def met(self, text: str, body: str, items: Sequence[str]) -> bool:
        return body == (body.upper() if self.wanted == "upper" else body.lower())


class _FromPool(_Rule):
    rule: Literal["from_pool"]
    pool: tuple[str, ...] = Field(min_length=1)

    def met(self, text: str, body: str, items: Sequence[str]) -> bool:
        known = {item.casefold() for item in self.pool}
        return bool(items) and all(item.casefold() in known for item in items)


class _Distinct(_Rule):
    rule: Literal["distinct"]

    def met(self, text: str, body: str, items: Sequence[str]) -> bool:
        return len({item.casefold() for item in items}) == len(items)


_AnyRule = Annotated[
    _Exact | _StartsWith | _EndsWith | _Contains | _Forbidden | _Count | _Separator | _Case
    | _FromPool | _Distinct,
    Field(discriminator="rule"),
]  # fmt: skip
_CHECKER: TypeAdapter[list[_AnyRule]] = TypeAdapter(Annotated[list[_AnyRule], Field(min_length=1)])


def _occurs(word: str, text: str) -> bool:
    """Whether `word` stands in `text` as a whole word, in any case."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def _body(rules: Sequence[_AnyRule], text: str) -> str:
    for rule in rules:
        if isinstance(rule, _StartsWith):
            text = text.removeprefix(rule.text)
        elif isinstance(rule, _EndsWith):
            text = text.removesuffix(rule.text)
    return text.strip()


def _items(rules: Sequence[_AnyRule], body: str) -> list[str]:
    separators = [rule.text for rule in rules if isinstance(rule, _Separator)]
    if not separators:
        return _WORD.findall(body)
    return [item.strip() for item in body.split(separators[0]) if item.strip()]


class InstructionRules(Annotator):
    """Checks a response against the prompt's `checker`: named constraints, each met or not.

    The score is the share of constraints that are met, in [0, 1]; with `strict` it is 1.0 if
    all are met, else 0.0. `details` names the constraints that failed. Rules: `exact`,
    `starts_with`, `ends_with` (text), `contains`, `forbidden` (words, in any case), `count`
    (equals, at_least, at_most), `separator` (text), `case` (is: upper or lower), `from_pool`
    (pool, in any case), `distinct`. A prompt without a checker and a response that is cut or
    empty are unscorable; a checker that cannot be read is an error.
    """

    needs: ClassVar[tuple[str, ...]] = ("checker",)

    strict: bool = False
    """Whether only a response that meets every constraint counts, as 1.0."""

    def open(self, where: Where) -> AbstractContextManager[Work]:
        """Nothing heavy: each row is checked by itself."""

        def work(rows: Iterator[Any]) -> Iterator[Any]:
            return (self._judge(row) for row in rows)

        return nullcontext(work)

    def _judge(self, row: Candidate) -> Score:
        if row.prompt.checker is None:
            return row.unscorable("the prompt has no checker")
        if not row.response.whole:
            cut = row.response.finish in ("length", "error")
            return row.unscorable(f"response {row.response.finish}" if cut else "response empty")
        try:
            rules = _CHECKER.validate_json(row.prompt.checker)
        except ValidationError as fault:
            first = fault.errors()[0]
            place = "/".join(str(step) for step in first["loc"])
            return row.error(
                "checker cannot be read", details=json.dumps({"at": place, "why": first["msg"]})
            )
        failed = _failed(rules, row.response.text.strip())
        share = 1 - len(failed) / len(rules)
        value = float(not failed) if self.strict else share
        details = {"constraints": len(rules), "failed": failed}
        return row.score(value, details=json.dumps(details, ensure_ascii=False))


def _failed(rules: Sequence[_AnyRule], text: str) -> list[str]:
    body = _body(rules, text)
    items = _items(rules, body)
    return [rule.rule for rule in rules if not rule.met(text, body, items)]

"""The row types: every record that the system keeps. Imports nothing of ours but digests.

One table holds rows of one type. All are frozen and refuse unknown fields, so that a
misspelt field is an error where it is made, not a hole found later. Read this file second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from fusechat.digests import digest

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length", "error", "unknown"]
Status = Literal["ok", "unscorable", "error"]


class Record(BaseModel):
    """Base of all rows: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn of a conversation."""

    role: Role
    content: str


class Prompt(Record):
    """One prompt: what a source is asked, and what its answer can be held against."""

    id: str
    """Digest of the messages; the same messages are the same prompt in every set."""
    messages: tuple[Message, ...]
    """The conversation so far; the last turn is the user's, or the assistant's where the beginning
    of its answer is given (a prefill)."""
    domain: str
    """Which build rule, samples and annotators apply, for example `math`."""
    answer: str | None = None
    """The gold final answer."""
    tests: str | None = None
    """Python source run after the response's code, which raises where that is wrong; or JSON, in
    one of the forms that `code_tests` reads."""
    reference: str | None = None
    """A reference solution (code) or a reference answer (judges)."""
    choices: tuple[str, ...] | None = None
    """Options of a multiple-choice question, in order."""
    checker: str | None = None
    """JSON: constraints that an answer can be checked against by rule."""
    turns: tuple[str, ...] | None = None
    """Later user turns of a multi-turn prompt."""
    item: str | None = None
    """What its publisher calls this item of a benchmark, such as `HumanEval/3`."""
    origin: str = ""
    """Name of the prompt set in the recipe."""
    licence: str = ""
    """Licence of the prompt set, as its publisher names it."""

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, str]] | str, **fields: Any) -> Self:
        """A prompt with its id computed; a plain string is one user turn."""
        turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        plain = [{"role": m["role"], "content": m["content"]} for m in turns]
        return cls(id=digest(plain), messages=tuple(Message(**m) for m in plain), **fields)

    def chat(self) -> list[dict[str, str]]:
        """The messages as plain dictionaries, as chat templates want them."""
        return [{"role": m.role, "content": m.content} for m in self.messages]


class Response(Record):
    """One answer of one source to one prompt."""

    id: str
    prompt_id: str
    source: str
    """Name of the source in the recipe."""
    index: int
    """Which of the samples of this source and prompt, from 0."""
    text: str
    reasoning: str | None = None
    """Reasoning text, kept apart from the answer; neither scored nor trained on."""
    finish: Finish
    """`length` was cut and is never taken for a whole one; `unknown` (stored) counts as whole."""
    error: str | None = None
    """Why there is no answer; there iff `finish` is `error`."""
    tokens: int | None = None
    """Response tokens by the source's own tokenizer, its end-of-turn token included."""
    prompt_tokens: int | None = None
    """Tokens of the prompt as the source saw it, its chat template included."""
    seed: int | None = None
    logprob: float | None = None
    """Sum over the response tokens, in nats, under the sampling model."""
    details: str | None = None
    """JSON: what a server said besides (its model's name, fingerprint, single log-probs)."""
    model: str
    """The model as served."""
    made_from: str
    """Digest of all that the part saw; row adoption goes by this, never by id or name."""

    @model_validator(mode="after")
    def _error_has_reason(self) -> Self:
        if (self.finish == "error") != (self.error is not None):
            raise ValueError("a response has an error text if and only if its finish is 'error'")
        return self

    @property
    def whole(self) -> bool:
        """Whether this is a complete, non-empty answer that may be chosen or judged."""
        return is_whole(self.finish, self.text)


def is_whole(finish: str, text: str) -> bool:
    """Whether a response that ended so, with this text, is complete and not empty."""
    return finish in ("stop", "unknown") and bool(text.strip())


class Score(Record):
    """One judgement of one response by one annotator."""

    response_id: str
    annotator: str
    """Name of the annotator in the recipe."""
    status: Status
    """`unscorable`: nothing to judge it by; `error`: the annotator failed. Neither is 0."""
    value: float | None = None
    """Right or wrong: 1.0 or 0.0. Reward models: their raw scale. There iff status is ok."""
    reason: str = ""
    details: str | None = None
    """JSON: objectives, the failing test, the sandbox level, a judge's words."""
    against: str | None = None
    """Response id of a pairwise opponent."""
    made_from: str

    @model_validator(mode="after")
    def _value_iff_ok(self) -> Self:
        if (self.status == "ok") != (self.value is not None):
            raise ValueError("a score has a value if and only if its status is 'ok'")
        if not math.isfinite(self.value or 0.0):
            raise ValueError("a score's value is a finite number")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"a score with status '{self.status}' must say why")
        return self


class Request(Record):
    """Input row of sampling: one prompt, one sample index. Never stored."""

    prompt: Prompt
    source: str
    index: int
    seed: int
    """Of this row alone (63 bits), so that neighbours and resumes do not matter."""
    model: str
    made_from: str

    def response(self, text: str, finish: Finish, **fields: Any) -> Response:
        """The `Response` to this request; a failure where its `logprob` is no finite number."""
        if not math.isfinite(fields.get("logprob") or 0.0):
            return self.failure("its log-probability is not a finite number: a broken model")
        identity = digest([self.prompt.id, self.source, self.index, self.made_from])
        fields = {"seed": self.seed, "model": self.model} | fields
        return Response(
            id=identity, prompt_id=self.prompt.id, source=self.source, index=self.index,
            text=text, finish=finish, made_from=self.made_from, **fields,
        )  # fmt: skip

    def failure(self, error: str) -> Response:
        """The kept record of a request that could not be answered."""
        return self.response("", "error", error=error)


class Candidate(Record):
    """Input row of annotating: one response in front of one annotator. Never stored."""

    prompt: Prompt
    response: Response
    annotator: str
    made_from: str

    def score(self, value: float, reason: str = "", **fields: Any) -> Score:
        """A judgement with a value; an error where that is no finite number."""
        if not math.isfinite(value):
            return self._judged("error", "the score is not a finite number", **fields)
        return self._judged("ok", reason, value=value, **fields)

    def unscorable(self, reason: str, **fields: Any) -> Score:
        """There is nothing to judge by: a cut response, no gold answer, no tests."""
        return self._judged("unscorable", reason, **fields)

    def error(self, reason: str, **fields: Any) -> Score:
        """The annotator failed: a crash, a time-out, a missing judge."""
        return self._judged("error", reason, **fields)

    def _judged(self, status: Status, reason: str, **fields: Any) -> Score:
        return Score(
            response_id=self.response.id, annotator=self.annotator, status=status, reason=reason,
            made_from=self.made_from, **fields,
        )  # fmt: skip


class SourceLogp(Record):
    """How likely one source's model finds one response, whoever wrote it."""

    response_id: str
    source: str
    """Name of the source in the recipe whose model is asked."""
    status: Status
    """`unscorable`: this source cannot say; `error`: it failed. Neither is a log-probability."""
    logp: float | None = None
    """Sum over the response's tokens, its end-of-turn token included, in nats, under the model
    itself (before temperature and top-p). There iff status is ok."""
    tokens: int | None = None
    """Tokens of the response in that model's own tokenizer, the end-of-turn token included. There
    iff status is ok; at least 1."""
    reason: str = ""
    made_from: str

    @model_validator(mode="after")
    def _numbers_iff_ok(self) -> Self:
        numbers = self.logp is not None, self.tokens is not None
        if set(numbers) != {self.status == "ok"}:
            raise ValueError("a source's log-probability and tokens are there iff status is 'ok'")
        if self.status == "ok" and not (math.isfinite(self.logp or 0.0) and (self.tokens or 0) > 0):
            raise ValueError("a log-probability is a finite number, of one token or more")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"a log-probability with status '{self.status}' must say why")
        return self


class LogpRequest(Record):
    """Input row of `source_logps`: one response in front of one source's model. Never stored."""

    prompt: Prompt
    response_id: str
    text: str
    source: str
    own: Response | None = None
    """The response's row, where this very source wrote it."""
    made_from: str

    def logp(self, value: float, tokens: int) -> SourceLogp:
        """The answer; an error where the value is no finite number."""
        if not math.isfinite(value):
            return self.error("its log-probability is not a finite number: a broken model")
        return self._answered("ok", "", logp=value, tokens=tokens)

    def unscorable(self, reason: str) -> SourceLogp:
        """This source cannot say how likely the text is."""
        return self._answered("unscorable", reason)

    def error(self, reason: str) -> SourceLogp:
        """The source failed."""
        return self._answered("error", reason)

    def _answered(self, status: Status, reason: str, **fields: Any) -> SourceLogp:
        return SourceLogp(
            response_id=self.response_id, source=self.source, status=status, reason=reason,
            made_from=self.made_from, **fields,
        )  # fmt: skip


class Demonstration(Record):
    """One SFT example: a prompt and the response to imitate."""

    prompt_id: str
    messages: tuple[Message, ...]
    response: str
    response_id: str
    source: str
    origin: str
    domain: str
    score: float | None = None
    reason: str = ""
    weight: float = 1.0


class Pair(Record):
    """One preference pair, trainable as it stands and traceable to both responses."""

    prompt_id: str
    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    chosen_id: str
    rejected_id: str
    source: str
    """The source of the chosen response."""
    origin: str
    domain: str
    chosen_score: float | None = None
    rejected_score: float | None = None
    margin: float | None = None
    """chosen_score - rejected_score, in the annotator's units."""
    reason: str = ""
    weight: float = 1.0
    rejected_source: str | None = None
    """The source of the rejected response; null: not said, and then it is `source` too."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The source of the chosen response, then that of the rejected one if it is another."""
        both = (self.source, self.rejected_source or self.source)
        return tuple(dict.fromkeys(both))


class Triple(Record):
    """One row of WRPO (arXiv 2412.03187): a source's best response and the target's own best and
    worst, of which the last is rejected."""

    prompt_id: str
    messages: tuple[Message, ...]
    source_chosen: str
    """The best response of the sources."""
    target_chosen: str
    """The best of the target's own responses."""
    rejected: str
    """The worst of the target's own responses."""
    source_chosen_id: str
    target_chosen_id: str
    rejected_id: str
    source: str
    """The source of `source_chosen`."""
    target_source: str
    """The recipe's name of the on-policy source that gave the other two."""
    origin: str
    domain: str
    source_chosen_score: float | None = None
    target_chosen_score: float | None = None
    rejected_score: float | None = None
    margin: float | None = None
    """target_chosen_score - rejected_score, in the annotator's units."""
    reason: str = ""
    weight: float = 1.0


class Dropped(Record):
    """A prompt (or row) that gave nothing, and why. Dropped rows are kept, never lost."""

    prompt_id: str
    origin: str
    domain: str
    stage: str
    """Where it was dropped: `read`, `duplicate`, `sft`, `dpo`, `split`, `length`, ..."""
    reason: str
    """Short and countable: the same words for the same cause."""
    details: str | None = None
    """JSON with this row's own numbers."""


RowType = Literal["Demonstration", "Pair", "Triple"]
SIDES: dict[RowType, tuple[str, ...]] = {
    "Demonstration": ("response",),
    "Pair": ("chosen", "rejected"),
    "Triple": ("source_chosen", "target_chosen", "rejected"),
}
"""Names of the responses of a row, in the order in which training keeps them."""

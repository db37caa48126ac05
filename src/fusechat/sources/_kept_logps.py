"""Log-probabilities that were kept when a source was sampled: of its own responses only."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fusechat.parts import RowPart, Where, Work
from fusechat.records import LogpRequest, SourceLogp


class KeptLogps(RowPart):
    """Answers with what is kept beside each response that the source wrote itself.

    A server's log-probability is taken as it told it: of the model itself (before temperature and
    top-p) by vLLM since its version 1 engine, whose `logprobs_mode` can say otherwise. One that
    includes the source's reasoning is not the response's.
    """

    def open(self, where: Where) -> AbstractContextManager[Work]:
        """Nothing is heavy here."""
        return nullcontext(lambda rows: map(_answer, rows))

    def sees(self, request: LogpRequest) -> Any:
        """The JSON value of all that decides an answer."""
        own = request.own
        if own is None:
            return [request.prompt.chat(), request.text]
        return [request.prompt.chat(), request.text, own.logprob, own.tokens, bool(own.reasoning)]


def _answer(request: LogpRequest) -> SourceLogp:
    own = request.own
    if own is None:
        return request.unscorable("another source's response, and this one keeps only its own")
    if own.reasoning:
        return request.unscorable("its log-probability includes its reasoning")
    if own.logprob is None or not own.tokens:
        missing = "log-probability" if own.logprob is None else "number of tokens"
        return request.unscorable(f"no {missing} was kept with its response")
    return request.logp(own.logprob, own.tokens)

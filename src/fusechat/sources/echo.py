"""A source that needs no model: for tests, a first look and bug reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from fusechat.parts import Source, Where
from fusechat.records import Request, Response


class Echo(Source):
    """Repeats the prompt's last turn, one to three times by its seed; needs no model."""

    prefix: str = ""
    """Put before every response."""

    def open(
        self, where: Where
    ) -> AbstractContextManager[Callable[[Iterator[Request]], Iterator[Response]]]:
        """Nothing is heavy here."""
        return nullcontext(lambda requests: map(self._answer, requests))

    def _answer(self, request: Request) -> Response:
        words = [request.prompt.messages[-1].content] * (1 + request.seed % 3)
        text = self.prefix + " ".join(words)
        return request.response(text, "stop", tokens=len(text.split()))

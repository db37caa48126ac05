"""A source with a real (tiny) model whose responses are made up: random models never end theirs."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fusechat.parts import Where, Work
from fusechat.records import Request, Response
from fusechat.sources.hf import Hf

WORDS = ["Tom", "has", "12", "apples", "and", "gives", "5", "to", "Ann", "so", "7", "are", "left"]


class Told(Hf):
    """Says some words, by the row's seed; its log-probabilities are its model's."""

    def cut(self, rows: Any) -> None:
        """Rows are independent."""

    def open(self, where: Where) -> AbstractContextManager[Work]:
        """Nothing is heavy here."""
        return nullcontext(lambda rows: map(_answer, rows))


def _answer(request: Request) -> Response:
    draw = random.Random(request.seed)
    return request.response(" ".join(draw.choices(WORDS, k=draw.randint(1, 30))), "stop")

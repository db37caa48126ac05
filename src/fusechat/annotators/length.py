"""An annotator that needs no model: for tests, a first look and bug reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from fusechat.parts import Annotator, Where
from fusechat.records import Candidate, Score


class Length(Annotator):
    """Scores a response by its number of characters over `scale`; needs no model."""

    scale: float = 100.0

    def open(
        self, where: Where
    ) -> AbstractContextManager[Callable[[Iterator[Candidate]], Iterator[Score]]]:
        """Nothing is heavy here."""
        return nullcontext(lambda candidates: map(self._judge, candidates))

    def _judge(self, candidate: Candidate) -> Score:
        if not candidate.response.whole:
            return candidate.unscorable(f"the response is not whole ({candidate.response.finish})")
        return candidate.score(len(candidate.response.text) / self.scale)

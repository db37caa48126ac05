"""Watches answers for a server that does not sample, and counts what a reader should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fusechat.errors import SourceError
from fusechat.records import Request, Response

SAME_PROMPTS = 8
"""So many prompts with nothing but identical samples, and no other, and the work stops."""
LONG_TEXT = 40
"""Characters; shorter answers may be identical by right."""
MOST_WATCHED = 2_000
"""Prompts; then the watch ends, as there are hardly any with several samples."""


class Watch:
    """Holds back samples of the first prompts until two of one prompt differ.

    So that nothing greedy is kept where sampling was asked for: a row that is there is never
    sampled again.
    """

    def __init__(self, temperature: float, model: str) -> None:
        self._on, self._model = temperature > 0, model
        self._asked: Counter[str] = Counter()
        self._held: dict[str, list[Response]] = {}
        self._greedy: str | None = None
        """Why the work stops, once that is certain."""
        self.counts: Counter[str] = Counter()

    def expect(self, rows: Sequence[Request]) -> None:
        """These rows are about to be asked."""
        if self._on:
            self._asked.update(row.prompt.id for row in rows)

    def check(self, rows: Sequence[Response]) -> list[Response]:
        """The rows that may go on now.

        Raises `SourceError` where it is certain that the server does not sample; each time again.
        """
        for row in rows:
            self.counts["answers"] += 1
            self.counts["cut"] += row.finish == "length"
            self.counts["empty"] += row.finish == "stop" and not row.text
        if self._greedy is not None:
            raise SourceError(self._greedy)
        if not self._on:
            return list(rows)
        out = []
        for row in rows:
            if self._telling(row):
                self._held.setdefault(row.prompt_id, []).append(row)
            else:
                out.append(row)
        same = [prompt for prompt, held in self._held.items() if len(held) > 1]
        if any(len({_said(row) for row in self._held[prompt]}) > 1 for prompt in same):
            return out + self._end()
        if len(same) >= SAME_PROMPTS:
            self._greedy = (
                f"the server of '{self._model}' does not sample: the samples of each of "
                f"{len(same)} prompts are identical, though a temperature was asked for. Mend the "
                "server (transformers serve: 'do_sample': true in the model's "
                "generation_config.json), or set temperature: 0. No such answer was kept."
            )
            raise SourceError(self._greedy)
        return out + self._end() if len(self._asked) > MOST_WATCHED else out

    def release(self) -> list[Response]:
        """All rows that are held back, when no more are asked; none of a server that is greedy."""
        if self._greedy is not None:
            return []
        self.counts["prompts_with_identical_samples"] += sum(
            len(held) > 1 for held in self._held.values()
        )
        return self._drop()

    def _telling(self, row: Response) -> bool:
        long = len(row.text) + len(row.reasoning or "") >= LONG_TEXT
        return long and row.finish != "error" and self._asked[row.prompt_id] > 1

    def _end(self) -> list[Response]:
        self._on = False
        self._asked.clear()
        return self._drop()

    def _drop(self) -> list[Response]:
        out = [row for held in self._held.values() for row in held]
        self._held.clear()
        return out


def _said(row: Response) -> tuple[str, str | None]:
    return row.text, row.reasoning

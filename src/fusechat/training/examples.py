"""What a training run keeps of its rows: token ids, and where each response begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Text:
    """Prompt and response as ids; `ids[start:]` is the response and its end-of-turn token."""

    ids: NDArray[np.int32]
    start: int

    @property
    def length(self) -> int:
        """Response tokens, the end-of-turn token included."""
        return len(self.ids) - self.start


@dataclass(frozen=True)
class Example:
    """One row to train on: the texts of its sides, in the order of `parts.SIDES`."""

    prompt_id: str
    texts: tuple[Text, ...]
    weight: float
    truncated: bool = False
    """Whether the end of a response was cut off."""
    response_ids: tuple[str, ...] = ()
    """Ids of the responses of its sides, where they are known."""

    @property
    def shared(self) -> int:
        """How many ids all its texts begin with, at most their prompts: what one copy serves."""
        least = min(text.start for text in self.texts)
        first = self.texts[0].ids[:least]
        same = [_same(first, text.ids[:least]) for text in self.texts[1:]]
        return min([least, *same]) if len(self.texts) > 1 else 0

    @property
    def longest(self) -> int:
        """Tokens of the longest text; decides how far its batch is padded."""
        return max(len(text.ids) for text in self.texts)

    @property
    def response_tokens(self) -> int:
        """Tokens that a loss over this row sums, all sides together."""
        return sum(text.length for text in self.texts)


def _same(one: NDArray[np.int32], other: NDArray[np.int32]) -> int:
    """Length of the common beginning of two arrays of one length."""
    differ = np.flatnonzero(one != other)
    return int(differ[0]) if len(differ) else len(one)

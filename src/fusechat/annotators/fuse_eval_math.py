"""Final answers of mathematics as FuseChat-3.0's own evaluation grades them, quirks included.

Source: FuseEval/Math-Eval of SLIT-AI/FuseChat-3.0 (a fork of Qwen2.5-Math's evaluation), written
anew from its behaviour. For numbers to be held against the paper's, not for training: it takes
0.5 for 50, 12345 for 12346 and (1,2) for [1,2]. `math_answer` is the one to trust.
"""

from __future__ import annotations

import importlib.util
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Annotated, ClassVar

from pydantic import Field

from fusechat.annotators._fuse_eval_equal import numeric
from fusechat.annotators._fuse_eval_text import extract, plain
from fusechat.children import KillablePool, Outcome
from fusechat.errors import MissingExtraError
from fusechat.parts import SPEED, Annotator, Where, Work
from fusechat.records import Candidate, Score

TARGET = "fusechat.annotators._fuse_eval_equal:same"
MEMORY_MB = 2048
TIMED_OUT = "not equal (no verdict in time)"
_TOLD = 200


class FuseEvalMath(Annotator):
    """Whether the final answer is the gold answer, as FuseChat-3.0's evaluation says: 1.0 or 0.0.

    A comparison that takes longer than `timeout` counts as unlike, as it does there, with that
    reason; a child process that dies is an error. Details: the `answer` that was read, and
    `parsed`: false where the response holds no number to fall back to.
    """

    requires: ClassVar[Mapping[str, str]] = {"math_verify": "math"}
    needs: ClassVar[tuple[str, ...]] = ("answer",)

    timeout: float = Field(default=3.0, gt=0)
    """Seconds of wall-clock time for one comparison."""
    grade_cut: bool = False
    """Whether a cut or empty response is graded as it stands, as there; else it is unscorable."""
    children: Annotated[int, SPEED] = Field(default=1, ge=1)
    """Child processes in each worker."""

    @contextmanager
    def open(self, where: Where) -> Iterator[Work]:
        """Child processes with sympy in them, and a cache of their verdicts."""
        if importlib.util.find_spec("latex2sympy2_extended") is None:
            raise MissingExtraError("fuse_eval_math", "math-verify", "math")
        preload = ("sympy", "latex2sympy2_extended")
        with KillablePool(
            TARGET, self.timeout, self.children, memory_mb=MEMORY_MB, preload=preload
        ) as pool:
            asked: dict[tuple[str, str], Future[Outcome]] = {}
            yield lambda rows: self._stream(rows, pool, asked)

    def _stream(
        self,
        rows: Iterator[Candidate],
        pool: KillablePool,
        asked: dict[tuple[str, str], Future[Outcome]],
    ) -> Iterator[Score]:
        ahead: deque[Callable[[], Score]] = deque()
        for row in rows:
            ahead.append(self._begin(row, pool, asked))
            if len(ahead) > 4 * self.children:
                yield ahead.popleft()()
        while ahead:
            yield ahead.popleft()()

    def _begin(
        self,
        row: Candidate,
        pool: KillablePool,
        asked: dict[tuple[str, str], Future[Outcome]],
    ) -> Callable[[], Score]:
        response = row.response
        if response.finish == "error" or not (response.whole or self.grade_cut):
            cut = response.finish in ("length", "error")
            reason = f"response {response.finish}" if cut else "response empty"
            return lambda: row.unscorable(reason)
        if not (row.prompt.answer or "").strip():
            return lambda: row.unscorable("no gold answer")
        answer, gold = extract(response.text), plain(str(row.prompt.answer))
        told = {"answer": answer[:_TOLD], "gold": gold[:_TOLD], "parsed": bool(answer)}
        details = json.dumps(told, ensure_ascii=False)
        known = numeric(answer, gold)
        if known is not None:
            reason = "equal" if known else ("not equal" if answer else "no final answer")
            return lambda: row.score(float(known), reason, details=details)
        key = (answer, gold)
        if key not in asked:
            asked[key] = pool.submit(*key)
        future = asked[key]
        return lambda: _score(row, future.result(), details)


def _score(row: Candidate, outcome: Outcome, details: str) -> Score:
    if outcome.ok:
        reason = "equal" if outcome.value else "not equal"
        return row.score(1.0 if outcome.value else 0.0, reason, details=details)
    if outcome.kind == "timeout":
        return row.score(0.0, TIMED_OUT, details=details)
    return row.error(f"the comparison {outcome.reason}", details=details)

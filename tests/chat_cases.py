"""Small files of the judged chat benchmarks' layouts, and answers to go with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fusechat.metrics.scoring import Items
from fusechat.records import Prompt, Response

ARENA_JUDGE = """bench_name: arena-hard-v0.1
system_prompt: "Compare. End with [[A>>B]], [[A>B]], [[A=B]], [[B>A]] or [[B>>A]]."
prompt_template: ["Q: {question_1}\\n<|The Start of Assistant A's Answer|>\\n{answer_1}\\n\
<|The End of Assistant A's Answer|>\\n<|The Start of Assistant B's Answer|>\\n{answer_2}\\n\
<|The End of Assistant B's Answer|>"]
"""


def lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def response(prompt: Prompt, text: str, finish: str = "stop") -> Response:
    return Response(
        id=f"of {prompt.id}", prompt_id=prompt.id, source="s", index=0, text=text, finish=finish,
        error="gone" if finish == "error" else None, model="m", made_from="x",
    )  # fmt: skip


def said(text: str) -> Response:
    """What a judge said."""
    return response(Prompt.of("judge", domain="judge"), text)


def items(
    values: Iterable[float],
    groups: Iterable[str] | None = None,
    names: Iterable[str] | None = None,
    details: Iterable[Mapping[str, Any]] | None = None,
) -> Items:
    known = list(values)
    none = np.full(len(known), np.nan)
    return Items(
        tuple(names or map(str, range(len(known)))), np.array(known, float),
        tuple(groups or ["all"] * len(known)), none, none,
        tuple(details or [{}] * len(known)),
    )  # fmt: skip

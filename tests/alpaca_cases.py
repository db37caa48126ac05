"""AlpacaEval's files with made instructions, and a judge who answers with one word."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

from fusechat.parts import Source, Where, Work
from fusechat.records import Request, Response
from fusechat.tasks.alpaca_eval_2 import BASELINE

PROMPT = """<|im_start|>system
You compare.
<|im_end|>
<|im_start|>user
Q: {instruction}
m: {output_1}
M: {output_2}
Best:
<|im_end|>"""


def instruction(number: int) -> str:
    return f"Tell me of {number}."


def write_files(folder: Path, n: int = 6, prompt: str | None = PROMPT) -> Path:
    """The baseline answers in words of growing number; df_gamed.csv has two rows each."""
    folder.mkdir(exist_ok=True)
    rows = [
        {"dataset": "koala" if at % 2 else "vicuna", "instruction": instruction(at),
         "output": f"Base {'word ' * at}".strip(), "generator": BASELINE}
        for at in range(n)
    ]  # fmt: skip
    (folder / "alpaca_eval_gpt4_baseline.json").write_text(json.dumps(rows))
    names = ("preference", "index", "std_delta_len", "instruction_difficulty", "model")
    with (folder / "df_gamed.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(names)
        for liked, length, kind in ((0.7, -1.5, "verbose"), (0.3, 1.5, "concise")):
            writer.writerows([liked, at, length, 0.1 * at, kind] for at in range(n))
    if prompt is not None:
        (folder / "alpaca_eval_clf.txt").write_text(prompt)
    return folder


def judgments(path: Path, liked: Sequence[Any], **changes: Any) -> Path:
    """A file of annotations: one row for each preference, in the baseline's order."""
    rows = [
        {"dataset": "koala", "instruction": instruction(at), "output_1": "Base",
         "output_2": "Mine " * (at + 1), "generator_1": BASELINE, "generator_2": "mine",
         "annotator": "judge", "preference": one, **changes}
        for at, one in enumerate(liked)
    ]  # fmt: skip
    path.write_text(json.dumps(rows))
    return path


class OneWord(Source):
    """Prefers, with probability 0.9, the answer that begins with `likes`; says so in one word.

    Told to look at the likeliest tokens it tells their log-probabilities, unless it is `mute` of
    them; an instruction with a word of `dumb` gets another word.
    """

    likes: str = "good"
    mute: bool = False
    dumb: tuple[str, ...] = ()
    temperature: float = 0.0
    top_logprobs: int = 0
    max_new_tokens: int = 9

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(lambda rows: map(self._answer, rows))

    def _answer(self, row: Request) -> Response:
        asked = row.prompt.messages[1].content
        if any(word in asked for word in self.dumb):
            return row.response("Neither", "length")
        first = asked.partition("\nm: ")[2].startswith(self.likes)
        word: Literal["m", "M"] = "m" if first else "M"
        chances = {word: math.log(0.9 * 0.8), "M" if first else "m": math.log(0.1 * 0.8)}
        told = None if self.mute or not self.top_logprobs else {"top_logprobs": chances}
        return row.response(word, "length", details=json.dumps(told) if told else None)


class Fixed(Source):
    """Answers everything with `text`."""

    text: str
    temperature: float = 0.5
    max_new_tokens: int = 99

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(lambda rows: (row.response(self.text, "stop", tokens=3) for row in rows))

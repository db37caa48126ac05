"""Writes what an evaluation reads, item by item."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fusechat import files, tables
from fusechat.digests import digest
from fusechat.parts import Where
from fusechat.progress import quiet
from fusechat.records import Candidate, Prompt, Request, Response, Score
from fusechat.stages.context import UnitContext
from fusechat.stages.evaluate import ItemResult, compare
from fusechat.stages.evaluate_settings import WinRate

# How one item ends: a value, or a word for what went wrong.
End = float | str
ENDS = {"cut": "length", "failed": "error"}


class World:
    """Writes the units that `compare` reads."""

    def __init__(self, root: Path) -> None:
        self.root, self.inputs = root, dict[str, Path]()
        self.win_rates: dict[str, WinRate] = {}

    def answers(
        self, task: str, model: str, ends: Sequence[End], copies: int = 1, text: str = "ten chars."
    ) -> None:
        prompts = [Prompt.of(f"{task} {i}", domain="math") for i in range(len(ends))]
        self._unit(f"evaluate/{task}/prompts", "prompts", prompts, Prompt)
        responses = [
            self._response(model, prompt, end, index, text)
            for prompt, end in zip(prompts, ends, strict=True)
            for index in range(copies)
            if end != "missing"
        ]
        by_id = {prompt.id: (prompt, end) for prompt, end in zip(prompts, ends, strict=True)}
        scores = [
            self._score(by_id[r.prompt_id][0], r, by_id[r.prompt_id][1])
            for r in responses
            if by_id[r.prompt_id][1] != "unjudged"
        ]
        self._unit(f"evaluate/{task}/{model}/sample", "data", responses, Response)
        self._unit(f"evaluate/{task}/{model}/annotate", "data", scores, Score)

    def compare(self) -> tuple[dict, dict]:
        folder = self.root / "compare"
        counts = compare(
            UnitContext(
                name="evaluate/compare", folder=folder, inputs=self.inputs,
                settings={"win_rates": self.win_rates}, seed=0, where=Where(), progress=quiet(),
                log=logging.getLogger("test"),
            )
        )  # fmt: skip
        return counts, files.read_json(folder / "metrics.json")

    def items(self) -> list[ItemResult]:
        return list(tables.read_table(self.root / "compare" / "items", ItemResult))

    def _unit(self, name: str, table: str, rows: Sequence, row_type: type) -> None:
        self.inputs[name] = self.root / name
        tables.write_table(self.root / name / table, rows, row_type)

    def _response(self, model: str, prompt: Prompt, end: End, index: int, text: str) -> Response:
        request = Request(
            prompt=prompt, source=model, index=index, seed=1, model=model,
            made_from=digest([model, prompt.id, index]),
        )  # fmt: skip
        if end == "failed":
            return request.failure("no connection")
        text = " \n" if end == "empty" else text
        return request.response(text, "length" if end == "cut" else "stop", tokens=5)

    def _score(self, prompt: Prompt, response: Response, end: End) -> Score:
        seen = Candidate(
            prompt=prompt, response=response, annotator="grade", made_from=response.made_from
        )
        if isinstance(end, str):
            failed = end == "crash"
            return seen.error("crashed") if failed else seen.unscorable(f"not whole: {end}")
        return seen.score(end)

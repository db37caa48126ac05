"""A small workspace of prompts, samples and scores for the build stage."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fusechat.parts import Where
from fusechat.progress import quiet
from fusechat.records import Candidate, Prompt, Request, Response, Score
from fusechat.stages.build_settings import BuildSettings
from fusechat.stages.context import UnitContext
from fusechat.tables import write_table


class BuildWorkspace:
    """Collects prompts with their responses, and writes the inputs of a build."""

    def __init__(self, folder: Path, sources: tuple[str, ...]) -> None:
        self.folder = folder
        self.prompts: list[Prompt] = []
        self.responses: dict[str, list[Response]] = {source: [] for source in sources}
        self.scores: dict[str, list[Score]] = {}

    def add(self, text: str, domain: str, origin: str = "set", **sources: list[Any]) -> Prompt:
        """One prompt; each response is a mapping of scores, with `text` and `finish` if wanted."""
        prompt = Prompt.of(text, domain=domain, origin=origin)
        self.prompts.append(prompt)
        for source, rows in sources.items():
            for index, row in enumerate(rows):
                self._respond(prompt, source, index, dict(row))
        return prompt

    def _respond(self, prompt: Prompt, source: str, index: int, scores: dict[str, Any]) -> None:
        text = scores.pop("text", f"{source} {index} on {prompt.messages[0].content}")
        finish = scores.pop("finish", "stop")
        request = Request(
            prompt=prompt, source=source, index=index, seed=0, model=source, made_from="m"
        )
        response = request.response(text, finish)
        self.responses[source].append(response)
        for name, value in scores.items():
            candidate = Candidate(prompt=prompt, response=response, annotator=name, made_from="m")
            missing = {"unscorable": candidate.unscorable, "error": candidate.error}
            score = missing[value]("some reason") if value in missing else candidate.score(value)
            self.scores.setdefault(name, []).append(score)

    def context(self, settings: Mapping[str, Any]) -> UnitContext:
        """Write everything, in several shards a table, so that shards matter."""
        write_table(self.folder / "prompts/prompts", self.prompts, Prompt, part(self.prompts))
        inputs = {"prompts": self.folder / "prompts"}
        for source, responses in self.responses.items():
            inputs[f"sample/{source}"] = self.folder / f"sample-{source}"
            write_table(
                self.folder / f"sample-{source}" / "data", responses, Response, part(responses)
            )
        for name, scores in self.scores.items():
            inputs[f"annotate/{name}"] = self.folder / f"annotate-{name}"
            write_table(self.folder / f"annotate-{name}" / "data", scores, Score, part(scores))
        return UnitContext(
            name="build",
            folder=self.folder / "build",
            inputs=inputs,
            settings=BuildSettings.model_validate(settings),
            seed=0,
            where=Where(),
            progress=quiet(),
            log=logging.getLogger("test"),
        )


def part(rows: list[Any]) -> int:
    """Rows of a shard, so that a table has about three."""
    return max(2, len(rows) // 3 + 1)


@pytest.fixture
def build_workspace(tmp_path: Path) -> BuildWorkspace:
    return BuildWorkspace(tmp_path, ("gemma", "qwen"))


WINDOW = {"min_margin": 0.01, "max_margin": 0.1}


@pytest.fixture
def paper_rules() -> dict[str, Any]:
    """The rules of FuseChat-3.0 for its four domains."""
    pair = {"use": "correct_over_incorrect", "by": "rm"}
    verified = {"use": "best_of", "by": "rm"}
    return {
        "chat": {
            "split": {"rule": "filter_then_share", "sft_share": 0.4},
            "sft": {"use": "best_of", "by": "rm"},
            "dpo": {"use": "same_source_margin", "by": "rm", **WINDOW},
        },
        "math": {
            "split": {"rule": "pair_else_sft"},
            "sft": {**verified, "correct_by": "math"},
            "dpo": {**pair, "correct_by": "math", **WINDOW},
        },
        "code": {
            "split": {"rule": "pair_else_sft"},
            "sft": {**verified, "correct_by": "code"},
            "dpo": {**pair, "correct_by": "code", "min_margin": None, "max_margin": None},
        },
        "zh": {"split": {"rule": "sft_only"}, "sft": {"use": "best_of", "by": None}},
    }

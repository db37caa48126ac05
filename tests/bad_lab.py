"""A folder with a recipe and its prompts, and the command line: for the tests of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fusechat.cli import main
from fusechat.files import read_json

GOOD = """\
name: small
prompts:
  hello: {use: files, path: prompts.jsonl, domain: chat}
sources:
  parrot: {use: echo, samples: 2}
annotators:
  length: {}
build:
  chat:
    split: {rule: filter_then_share}
    sft: {use: best_of, by: length}
    dpo: {use: same_source_margin, by: length, min_margin: 0.0, max_margin: 1.0}
"""
SLOW = "{{use: 'bad_parts:Slow', tally: {tally}, seconds: {seconds}, samples: 4}}"
ECHO, FILES = "{use: echo, samples: 2}", "{use: files, path: prompts.jsonl, domain: chat}"
LENGTH = "  length: {}"
TASK = "evaluate: {tasks: [{use: 'bad_parts:NoPrompts'}]}\n"


class Lab:
    """A folder with a recipe and its prompts, and the command line as a user has it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.recipe, self._capsys = folder, folder / "r.yaml", capsys
        self.write("prompts.jsonl", [{"prompt": f"say {w}"} for w in ("one", "two", "three")])
        self.recipe.write_text(GOOD)

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def change(self, *changes: tuple[str, str]) -> None:
        """The good recipe with changes."""
        text = GOOD
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.recipe.write_text(text)

    def command(self, name: str, *arguments: object, code: int = 0) -> str:
        """Run a command that ends with `code`; all that it printed, paths from here."""
        assert main([name, *map(str, arguments)]) == code
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return (out + err).replace(f"{self.folder}/", "")

    def run(self, *arguments: object, code: int = 0, workspace: str = "ws") -> str:
        place = self.folder / workspace
        return self.command("run", self.recipe, "--workspace", place, *arguments, code=code)

    def refused(self, *arguments: object) -> str:
        """A recipe that is refused before anything runs or is written."""
        out = self.run(*arguments, code=2)
        assert out.rstrip().endswith("nothing was run.")
        assert not (self.folder / "ws").exists()
        return out

    def unit(self, pattern: str) -> Path:
        (folder,) = (self.folder / "ws").glob(pattern)
        return folder

    def counts(self, pattern: str) -> dict[str, Any]:
        counts: dict[str, Any] = read_json(self.unit(pattern) / "manifest.json")["counts"]
        return counts

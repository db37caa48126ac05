"""What the miniature experiment has to run, and what of it is done: runs, keys, runs.jsonl."""

from __future__ import annotations

import fcntl
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Self

import yaml
from miniature_variants import (
    Settings,
    drawn,
    merged,
    models_of,
    seeded,
    settings_of,
    task_names,
    zoo_models,
)

from fusechat.digests import digest
from fusechat.environment import library_versions
from fusechat.files import append_jsonl, mend_torn_line, read_jsonl, write_atomic
from fusechat.miniature.world import VERSION

SHIPPED, MINI = 1, "mini"
"""Pretraining seed and size of the zoo that the recipe names."""
Line = dict[str, Any]


class TunedError(Exception):
    """The settings chosen on dev are not there, or are another world's."""


@dataclass(frozen=True)
class Run:
    """One variant on one pretraining seed and one pipeline seed."""

    variant: str
    pretraining: int
    pipeline: int
    split: str
    settings: Settings
    """What its line tells; `changes` has all."""
    changes: Settings
    tree: Mapping[str, Any]
    """The recipe with everything set."""
    zoo: Path
    world: str = VERSION

    @property
    def seeds(self) -> tuple[int, int]:
        """Pretraining and pipeline seed."""
        return self.pretraining, self.pipeline

    @property
    def name(self) -> str:
        """As people are told of it."""
        return f"p{self.pretraining} s{self.pipeline} {self.variant}"

    @property
    def models(self) -> dict[str, Line | None]:
        """The zoo's models that it needs, each with its card; None where it is not there yet."""
        return {name: _card(self.zoo / name) for name in sorted({*zoo_models(self.tree).values()})}

    def lacks(self) -> str:
        """Why its zoo cannot be used; empty where it can."""
        for name, card in self.models.items():
            if card is None:
                return f"the zoo {self.zoo} has no whole model '{name}'"
            if card["version"] != self.world:
                return (
                    f"{self.zoo / name} is of world {card['version']}, and this is world "
                    f"{self.world}. Remove {self.zoo}, and build it anew"
                )
        return ""

    @property
    def key(self) -> str:
        """Digest of all that decides its numbers but the code: world, models, merged recipe."""
        return self._digest() if None in self.models.values() else self._whole_key

    @cached_property
    def _whole_key(self) -> str:
        return self._digest()

    def _digest(self) -> str:
        tree = merged(self.tree, {**zoo_models(self.tree), "name": ""})
        return digest({"world": self.world, "models": self.models, "recipe": tree})

    def line(self) -> Line:
        """The beginning of its line."""
        return {
            "world": self.world,
            "variant": self.variant,
            "pretraining_seed": self.pretraining,
            "pipeline_seed": self.pipeline,
            "split": self.split,
            "settings": self.settings,
            "zoo": digest(self.models),
            "key": self.key,
            "versions": library_versions() | {"python": platform.python_version()},
        }


_CARDS: dict[Path, Line] = {}


def _card(folder: Path) -> Line | None:
    path = folder / "card.json"
    if folder not in _CARDS and path.exists():
        _CARDS[folder] = json.loads(path.read_text(encoding="utf-8"))
    return _CARDS.get(folder)


@dataclass(frozen=True)
class Experiment:
    """A recipe, the choices made on dev, and where the results go."""

    recipe: Path
    tree: Mapping[str, Any]
    out: Path
    tuned_path: Path
    tuned: Mapping[str, Any] | None
    take: int | None
    size: str = MINI
    """Of the zoo's models; the shipped zoo has the size `mini`."""

    @classmethod
    def read(
        cls, recipe: Path, out: Path, tuned: Path, take: int | None, size: str = MINI
    ) -> Experiment:
        """`take`: prompts of each set and task in place of the recipe's numbers."""
        tree = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        choice = json.loads(tuned.read_text(encoding="utf-8")) if tuned.exists() else None
        return cls(recipe.resolve(), tree, out, tuned, choice, take, size)

    @property
    def tasks(self) -> dict[str, str]:
        """The recipe's tasks and what they are called in the lines."""
        return task_names(self.tree)

    def check_tuned(self, small: bool) -> None:
        """Raises `TunedError` where no choice was made on this world's dev prompts.

        A small experiment says nothing about settings, and takes another world's.
        """
        if self.tuned is None:
            raise TunedError(f"there is no {self.tuned_path}. Choose settings: --tune --accept.")
        if self.tuned["world"] != VERSION and not small:
            raise TunedError(
                f"{self.tuned_path} was chosen on world {self.tuned['world']}, and this is world "
                f"{VERSION}. Choose anew: --tune --accept."
            )

    def ships(self, pretraining: int) -> bool:
        """Whether the zoo of a pretraining seed comes with the recipe; others are built."""
        return pretraining == SHIPPED and self.size == MINI

    def zoo(self, pretraining: int) -> Path:
        """Where the models of a pretraining seed are, or will be."""
        if self.ships(pretraining):
            target = self.recipe.parent / str(self.tree["target"]["model"])
            return target.resolve().parent
        return self.out / f"zoo-{pretraining}"

    def run(
        self,
        variant: str,
        pretraining: int,
        pipeline: int,
        split: str = "test",
        settings: Settings | None = None,
    ) -> Run:
        """A run; `settings`: those of a trial, else the variant's own."""
        if settings is None:
            settings = settings_of(variant, self.tree, (self.tuned or {})["choice"])
        zoo = self.zoo(pretraining)
        changes = {**settings, **seeded(self.tree, drawn(pretraining, pipeline), split, self.take)}
        if (models := models_of(variant, settings, split)) is not None:
            changes["evaluate.models"] = models
        named = zoo_models(merged(self.tree, changes))
        changes |= {key: str(zoo / name) for key, name in named.items()}
        tree = merged(self.tree, changes)
        return Run(variant, pretraining, pipeline, split, settings, changes, tree, zoo)

    def of_line(self, line: Mapping[str, Any]) -> Run | None:
        """The run that a line would be of now; None where there is no such variant any more."""
        seeds = line["pretraining_seed"], line["pipeline_seed"]
        own = line["settings"] if line["split"] == "dev" else None
        try:
            return self.run(line["variant"], *seeds, line["split"], own)
        except KeyError:
            return None


class Ledger:
    """runs.jsonl, written by one process at a time. A context manager, unless only read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None
        self._lines: dict[str, Line] = {}
        self._read()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path.parent / ".lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise OSError(f"another process works in {self.path.parent}. Wait for it.") from error
        mend_torn_line(self.path)
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def _read(self) -> None:
        self._lines = {line["key"]: line for line in read_jsonl(self.path)}

    def __getitem__(self, run: Run) -> Line:
        return self._lines[run.key]

    def __contains__(self, run: Run) -> bool:
        return run.key in self._lines

    @property
    def lines(self) -> Sequence[Line]:
        """All lines, oldest first."""
        return list(self._lines.values())

    def add(self, line: Line) -> None:
        """Append a line; it is durable when this returns."""
        append_jsonl(self.path, line)
        self._lines[line["key"]] = line

    def supersede(self, experiment: Experiment, split: str, retry: bool) -> int:
        """Move a split's lines of another world, models or recipe; with `retry`, failed ones too.

        Nothing is lost: they go to superseded.jsonl. Returns how many.
        """
        own = [line for line in self.lines if line["split"] == split]
        old = [line for line in own if self._is_old(experiment, line, retry)]
        if old:
            append_jsonl(self.path.with_name("superseded.jsonl"), *old)
            gone = {line["key"] for line in old}
            kept = [line for key, line in self._lines.items() if key not in gone]
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
            write_atomic(self.path, text.encode())
            self._read()
        return len(old)

    @staticmethod
    def _is_old(experiment: Experiment, line: Line, retry: bool) -> bool:
        if "error" in line and retry:
            return True
        now = experiment.of_line(line)
        return now is None or now.key != line["key"]

    def failed(self, runs: Iterable[Run]) -> list[Line]:
        """The lines of those runs that failed."""
        return [self[run] for run in runs if run in self and "error" in self[run]]

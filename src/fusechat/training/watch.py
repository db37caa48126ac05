"""Looking at held-out rows while a model is trained, and telling when a run drifts.

`watch.jsonl` in the unit's folder has a line for each look: before the first step, every
`watch.steps` steps, and after the last. `watch/` has what the first look kept for the later ones.
A look changes nothing: a watched run has, bit for bit, the weights of one that is not.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.faultpoints import reach
from fusechat.files import read_jsonl
from fusechat.training.drift import Drift, find_drift
from fusechat.training.engine import Engine
from fusechat.training.examples import Example
from fusechat.training.metrics import Line, MetricsLog
from fusechat.training.oom import free_cached_memory, is_out_of_memory
from fusechat.training.ranks import Ranks
from fusechat.training.reference import Known, rows_digest
from fusechat.training.watch_answers import Answers, as_it_was, network_of
from fusechat.training.watch_numbers import answer_numbers, held_out_numbers, kl_numbers
from fusechat.training.watch_start import Start, as_rows, read_start, write_start

if TYPE_CHECKING:
    import torch

    from fusechat.parts import Loss

LOG = "watch.jsonl"


@dataclass(frozen=True)
class Watched:
    """What is looked at, and when."""

    folder: Path
    """The unit's."""
    loss: Loss
    examples: Sequence[Example]
    """Held-out rows; none: there are no looks, only warnings from the training rows."""
    known: Known
    """What the sources say of them, where the loss needs it."""
    total: int
    """Steps of the whole run."""
    steps: int
    """Steps between two looks."""
    steps_per_epoch: int
    prompts: int
    """Held-out prompts that are answered, at most."""
    answers: Answers
    seed: int

    def due(self, step: int) -> bool:
        """Whether there is a look when `step` steps are done."""
        return bool(self.examples) and (step % self.steps == 0 or step == self.total)

    def asked(self) -> list[list[int]]:
        """The prompts that are answered: ids of different ones, drawn by the seed.

        Each is there as often as a row has sides, so that its answers make a row of their own.
        """
        first: dict[str, Example] = {}
        for example in self.examples:
            first.setdefault(example.prompt_id, example)
        chosen = sorted(first)
        random.Random(f"{self.seed}:watch").shuffle(chosen)
        texts = [first[name].texts[0] for name in chosen[: self.prompts]]
        prompts = [text.ids[: text.start].tolist() for text in texts]
        return [prompt for prompt in prompts for _ in self.loss.sides]

    @property
    def made_of(self) -> str:
        """Says of which rows and prompts a kept start is."""
        asked = [self.prompts, self.answers.max_new_tokens, self.answers.ends]
        return json.dumps([rows_digest(self.examples), asked, self.seed])


@dataclass
class Watch:
    """The observer that looks and warns; see `training.loop.Observer`."""

    watched: Watched
    note: Callable[[str], None]
    tell: Callable[[Line], None] = lambda line: None
    """Told of each look, on the first rank."""
    _looker: _Looker | None = None
    _told: set[str] = field(default_factory=set)
    _main: bool = False

    def begin(self, engine: Engine, ranks: Ranks, step: int) -> None:
        """Keep what the later looks need, or read it; look where a look is missing."""
        log = MetricsLog(self.watched.folder / LOG)
        seen = [line["step"] for line in read_jsonl(log.path)]
        ranks.wait()
        self._main = ranks.main
        if not self.watched.examples:
            return
        if ranks.main:
            log.start(step if step else -1)
        looker = _Looker(self.watched, engine, ranks, self.note, log, self.tell)
        if looker.start_from(step):
            self._looker = looker
            if step and step not in seen:
                self._look(step)

    def after(self, line: Line) -> None:
        """Look where a look is due."""
        self._look(line["step"])

    def saved(self, engine: Engine, step: int) -> None:
        """Tell of new warnings, also where nothing is looked at."""
        self._warn()

    def end(self) -> None:
        """Nothing is left to do."""

    def _look(self, step: int) -> None:
        if self._looker is not None and self.watched.due(step):
            self._looker.look(step)
            self._warn()

    def _warn(self) -> None:
        """Tell of each warning once."""
        for warning in find_warnings(self.watched.folder) if self._main else ():
            if warning.kind not in self._told:
                self._told.add(warning.kind)
                self.note(f"warning: {warning.text} Try: {'; '.join(warning.advice)}.")


@dataclass
class _Looker:
    """Looks at a model that is there."""

    watched: Watched
    engine: Engine
    ranks: Ranks
    note: Callable[[str], None]
    log: MetricsLog
    tell: Callable[[Line], None]
    start: Start | None = None

    def start_from(self, step: int) -> bool:
        """Look before the first step, or read what that look kept; False where nothing is kept."""
        if step == 0:
            self.start = start = self._look_first()
            self._write(0, start, start.logps, start.responses, start.answer_logps)
            return True
        found = read_start(self.watched.folder, self.watched.made_of, len(self.watched.loss.sides))
        if found is None:
            self.note("nothing was kept of the model before training, so held-out rows are not "
                      "looked at in the rest of this run")  # fmt: skip
            return False
        self.start = found.to(self.ranks.device)
        return True

    def look(self, step: int) -> None:
        """Add the line of `step`."""
        start = self.start
        assert start is not None
        logps = self._logps(self.watched.examples)
        of_first = self._logps(start.answers)
        answers = self._answer(start.prompts)
        self._write(step, start, logps, answers, of_first)

    def _look_first(self) -> Start:
        sides = len(self.watched.loss.sides)
        asked = self.watched.asked()
        answers = self._answer(asked)
        rows = as_rows(asked[: len(answers)], answers, sides)
        start = Start(self._logps(self.watched.examples), rows, self._logps(rows))
        if self.ranks.main:
            write_start(self.watched.folder, self.watched.made_of, start)
        self.ranks.wait()
        return start

    def _write(
        self,
        step: int,
        start: Start,
        logps: torch.Tensor,
        answers: Sequence[Sequence[int]],
        of_first: torch.Tensor,
    ) -> None:
        """`of_first`: what the model now gives to the first answers; `answers`: those of now."""
        watched = self.watched
        reference = start.logps if watched.loss.needs_reference else None
        known = replace(watched.known, reference=reference)
        share = step / watched.total
        numbers = held_out_numbers(
            watched.loss, watched.examples, logps, start.logps, known, progress=share
        )
        line: Line = {"step": step, "epoch": step / watched.steps_per_epoch}
        line["held_out_rows"] = len(watched.examples)
        line |= {f"held_out_{name}": value for name, value in numbers.items()}
        first = [len(response) for response in start.responses]
        if answers:
            cut = [watched.answers.cut(answer) for answer in answers]
            line |= answer_numbers([len(answer) for answer in answers], cut, first)
        if first:
            then, now = (found.flatten().tolist() for found in (start.answer_logps, of_first))
            line |= kl_numbers(then, now, first)
        if self.ranks.main:
            self.log.append(line)
            self.tell(line)
        reach("train.watched")

    def _logps(self, rows: Sequence[Example]) -> torch.Tensor:
        import torch

        if not rows:
            sides = len(self.watched.loss.sides)
            return torch.zeros(0, sides, dtype=torch.float64, device=self.ranks.device)
        network, _ = network_of(self.engine)
        with as_it_was(network, self.ranks.device):
            return self.engine.logps(rows)

    def _answer(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """An answer to each prompt; none, with a note, where memory has no room for them."""
        if not prompts:
            return []
        watched = self.watched
        try:
            return watched.answers.drawn(self.engine, self.ranks, prompts, watched.seed)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self.ranks.world > 1:
                raise
        free_cached_memory()
        self.note("no room for answers to held-out prompts; give fewer (watch: {prompts: 0} none)")
        return []


def find_warnings(folder: Path) -> list[Drift]:
    """The warnings of a training unit's folder, from its two files of curves."""
    names = ("metrics.jsonl", LOG)
    return find_drift(*(list(read_jsonl(folder / name)) for name in names))

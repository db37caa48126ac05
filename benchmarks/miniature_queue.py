"""Does runs of the miniature experiment in processes side by side, the longest first.

Runs of one pair of seeds share a workspace, so they are one job in one process; a job whose zoo is
not built yet waits for it. This process alone writes `runs.jsonl`.
"""

from __future__ import annotations

import json
import os
import selectors
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miniature_ledger import SHIPPED, Experiment, Ledger, Line, Run
from miniature_variants import task_sizes

JOB = Path(__file__).resolve().with_name("miniature_job.py")
SECONDS = {
    "fused": 105.0, "chosen_sft": 10.0, "plain_dpo": 10.0, "samples_10": 65.0,
    "second_target": 32.0,
}  # fmt: skip
"""CPU seconds of a run after those before it in its workspace, before any are measured."""
OTHER_SECONDS, TRIAL_SECONDS, ZOO_SECONDS = 22.0, 12.0, 1200.0
SMALL_SHARE = 0.25
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class _Task:
    """What one process does: the runs of a pair of seeds, or (no runs) the building of a zoo."""

    name: str
    pretraining: int
    runs: list[Run]
    seconds: float
    begun: int | None = None
    """Place of the run that its process is at."""


@dataclass
class _Child:
    """A process that works on a task, and what it has said so far of a line."""

    task: _Task
    process: subprocess.Popen[bytes]
    log: Path
    said: bytes = b""


@dataclass
class Queue:
    """Does what is missing in `ledger`."""

    experiment: Experiment
    ledger: Ledger
    jobs: int
    device: str
    _waiting: list[_Task] = field(default_factory=list)
    _children: dict[int, _Child] = field(default_factory=dict)
    _done: int = 0
    _all: int = 0
    _spent: list[tuple[float, float]] = field(default_factory=list)
    """Wall and CPU seconds of the runs of this call."""

    def do(self, runs: Sequence[Run]) -> None:
        """Do all runs that have no line; returns when each has one."""
        self._waiting = self._tasks(runs)
        self._all, self._spent = len(runs), []
        self._done = self._all - sum(len(task.runs) for task in self._waiting)
        selector = selectors.DefaultSelector()
        try:
            while self._waiting or self._children:
                while len(self._children) < self.jobs and (task := self._next()) is not None:
                    child = self._start(task)
                    assert child.process.stdout is not None
                    self._children[child.process.stdout.fileno()] = child
                    selector.register(child.process.stdout, selectors.EVENT_READ)
                for ready, _ in selector.select() if self._children else ():
                    self._hear(self._children[ready.fd], selector)
        finally:
            for child in self._children.values():
                child.process.kill()
                child.process.wait()
            self._children = {}

    def plan(self, runs: Sequence[Run]) -> str:
        """What would run, and the estimated time."""
        tasks = self._tasks(runs)
        lines = [f"{'done' if run in self.ledger else 'to do':6} {run.name}" for run in runs]
        lines += [f"       {task.name}" for task in tasks if not task.runs]
        seconds = sum(task.seconds for task in tasks)
        todo = sum(len(task.runs) for task in tasks)
        end = f"{todo} of {len(runs)} runs to do: about {seconds / 60:.0f} CPU minutes"
        lines.append(f"{end}, {self._wall(tasks) / 60:.0f} minutes with --jobs {self.jobs}.")
        return "\n".join(lines)

    def _tasks(self, runs: Sequence[Run]) -> list[_Task]:
        """Zoos to be built, then jobs; the longest of each first."""
        missing = [run for run in runs if run not in self.ledger]
        jobs: dict[tuple[Any, ...], _Task] = {}
        zoos: dict[int, _Task] = {}
        for run in missing:
            name = f"p{run.pretraining}-s{run.pipeline}"
            task = jobs.setdefault(run.seeds, _Task(name, run.pretraining, [], 0.0))
            task.runs.append(run)
            task.seconds += self._estimate(run)
            built = not self.experiment.ships(run.pretraining)
            if built and None in run.models.values():
                zoo = f"building zoo-{run.pretraining}"
                zoos[run.pretraining] = _Task(zoo, run.pretraining, [], self._zoo_seconds(run))
        longest = sorted(jobs.values(), key=lambda task: (-task.seconds, task.name))
        return [*zoos.values(), *longest]

    def _next(self) -> _Task | None:
        """The first task that need not wait, taken out."""
        building = {task.pretraining for task in self._unfinished() if not task.runs}
        for task in self._waiting:
            if task.runs and task.pretraining in building:
                continue
            self._waiting.remove(task)
            if not task.runs or self._able(task):
                return task
            return self._next()
        return None

    def _unfinished(self) -> Iterable[_Task]:
        return [*self._waiting, *(child.task for child in self._children.values())]

    def _able(self, task: _Task) -> bool:
        """Give runs whose zoo cannot be used their line; whether any are left."""
        for run in task.runs:
            if why := run.lacks():
                self._file(run, {**run.line(), "error": why})
        task.runs = [run for run in task.runs if run not in self.ledger]
        return bool(task.runs)

    def _start(self, task: _Task) -> _Child:
        log = self.experiment.out / "logs" / f"{task.name.replace(' ', '-')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": paths}
        with log.open("ab") as errors:
            # Children end with the thread that starts them, so this must be the main one.
            process = subprocess.Popen(
                [sys.executable, "-P", str(JOB)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        assert process.stdin is not None
        process.stdin.write(json.dumps(self._order(task)).encode())
        process.stdin.close()
        if not task.runs:
            say(f"{task.name}: begins")
        return _Child(task, process, log)

    def _order(self, task: _Task) -> dict[str, Any]:
        """What the process is told."""
        if not task.runs:
            zoo = self.experiment.zoo(task.pretraining)
            how = {"size": self.experiment.size, "device": self.device}
            return {"zoo": str(zoo), "seed": task.pretraining, **how}
        return {
            "recipe": str(self.experiment.recipe),
            "workspace": str(self.experiment.out / "workspaces" / task.name),
            "device": self.device,
            "tasks": self.experiment.tasks,
            "runs": [
                {
                    "line": run.line(),
                    "set": run.changes,
                    "seed": run.changes["seed"],
                    "sizes": task_sizes(run.tree),
                }
                for run in task.runs
            ],
        }

    def _hear(self, child: _Child, selector: selectors.BaseSelector) -> None:
        """Take in what a process says; at its end, see to what it leaves."""
        assert child.process.stdout is not None
        descriptor = child.process.stdout.fileno()
        data = os.read(descriptor, 1 << 16)
        *lines, child.said = (child.said + data).split(b"\n")
        for text in lines:
            message = json.loads(text)
            if "begin" in message:
                child.task.begun = message["begin"]
            else:
                self._file(child.task.runs[child.task.begun or 0], message["line"])
        if data:
            return
        selector.unregister(child.process.stdout)
        child.process.stdout.close()
        del self._children[descriptor]
        self._ended(child, child.process.wait())

    def _ended(self, child: _Child, status: int) -> None:
        task = child.task
        if not task.runs:
            say(f"{task.name}: {'done' if status == 0 else f'ended with status {status}'}")
            return
        left = [run for run in task.runs if run not in self.ledger]
        if status == 0 or not left:
            return
        # The run that its process died in is not tried again; the others get a new process.
        why = f"its process ended with status {status}; see {child.log}"
        self._file(left[0], {**left[0].line(), "error": why})
        if left[1:]:
            seconds = sum(self._estimate(run) for run in left[1:])
            self._waiting.insert(0, _Task(task.name, task.pretraining, left[1:], seconds))

    def _file(self, run: Run, line: Line) -> None:
        self.ledger.add(line)
        self._done += 1
        seconds = line.get("seconds")
        if "error" in line:
            say(f"{run.name}: FAILED: {line['error'].splitlines()[0]}")
        elif seconds:
            self._spent.append((seconds["wall"], seconds["cpu"]))
            left = self._wall(list(self._unfinished())) / 60
            say(
                f"{run.name}: {seconds['wall']:.0f} s, {seconds['cpu']:.0f} CPU s; "
                f"{self._done} of {self._all} runs, about {left:.0f} min left"
            )

    def _wall(self, tasks: Sequence[_Task]) -> float:
        """Estimated wall seconds of what is left of some tasks."""
        seconds = 0.0
        for task in tasks:
            left = [run for run in task.runs if run not in self.ledger]
            seconds += sum(self._estimate(r) for r in left) if task.runs else task.seconds
        wall, cpu = (sum(spent[place] for spent in self._spent) for place in (0, 1))
        return seconds * (wall / cpu if cpu else 1.0) / self.jobs

    def _estimate(self, run: Run) -> float:
        """CPU seconds of a run: the median of those that are done, else what was measured once."""
        known: list[float] = [
            line["seconds"]["cpu"]
            for line in self.ledger.lines
            if (line["variant"], line["split"]) == (run.variant, run.split) and "error" not in line
        ]
        if known:
            return statistics.median(known)
        share = 1.0 if self.experiment.take is None else SMALL_SHARE
        found = SECONDS.get(run.variant, OTHER_SECONDS) if run.split == "test" else TRIAL_SECONDS
        return found * share

    def _zoo_seconds(self, run: Run) -> float:
        """CPU seconds to build what a zoo lacks, by the cards of the shipped one."""
        shipped = self.experiment.run(run.variant, SHIPPED, run.pipeline, run.split, run.settings)
        cards = [card for name, card in shipped.models.items() if run.models[name] is None]
        if None in cards:
            return ZOO_SECONDS
        return sum(float(card["cpu_seconds"]) for card in cards if card) or ZOO_SECONDS


def say(line: str) -> None:
    """Print one line of progress."""
    print(line, flush=True)

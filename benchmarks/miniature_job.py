"""One process of the miniature experiment: runs that share a workspace, or the building of a zoo.

Started by `miniature.py` as `python -P miniature_job.py < job.json`. It answers on standard output
with one JSON object a line: `{"begin": place}` and `{"line": ...}` for each run. It ends when the
process that started it ends. All variants of one pair of seeds run here, one after the other: what
they share is done once (docs/architecture.md), and so are the imports.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

EDGE = 3
"""Steps at the beginning and at the end of a training whose mean is kept."""
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def kept_workers() -> Iterator[Callable[[], float]]:
    """Let all runs of this process share one worker process; gives the CPU seconds it has used.

    A run ends its workers, and a new one has torch to import: about 4 CPU seconds for each of 14
    variants, which change no result.
    """
    from fusechat import unit_contexts
    from fusechat.executors.local import LocalExecutor

    class Kept(LocalExecutor):
        """Workers that outlive a run, but not a failure."""

        def map(self, *arguments: Any) -> Any:
            """As `LocalExecutor.map`."""
            try:
                yield from super().map(*arguments)
            except BaseException:
                super().close()
                raise

        def close(self) -> None:
            """Keep them for the next run."""

        def end(self) -> None:
            """Stop all workers."""
            super().close()

        def seconds(self) -> float:
            """CPU seconds of the workers that are there, with those of their own children."""
            return sum(_cpu_of(worker.process.pid) for worker in self._workers)

    pool = Kept(1, 1)
    with mock.patch.object(unit_contexts, "LocalExecutor", return_value=pool):
        try:
            yield pool.seconds
        finally:
            pool.end()


def _cpu_of(pid: int) -> float:
    """CPU seconds of a process and its ended children; 0.0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def numbers_of(metrics: Mapping[str, Any], tasks: Mapping[str, str]) -> dict[str, Any]:
    """Model -> task -> its numbers, from a run's metrics.json; `tasks`: their names -> ours."""
    out: dict[str, dict[str, Any]] = {}
    for task, found in metrics["tasks"].items():
        graded = found.get("metric") == "win_rate"
        for model, entry in found["models"].items():
            out.setdefault(model, {})[tasks[task]] = _numbers(entry, graded)
    return out


def _numbers(entry: Mapping[str, Any], graded: bool) -> dict[str, Any]:
    """The strict reading, whose items are the same for every model, and the lengths."""
    out = _known("value", entry["accuracy_strict"], entry.get("accuracy_strict_missing"))
    if graded:
        controlled = entry["length_controlled"]
        out |= _known("length_controlled", controlled["value"], controlled.get("value_missing"))
        out |= _known("mean_score", entry["mean_score"], None)
    counts = {name: entry[name] for name in ("scored", "cut", "empty", "errors")}
    lengths = {name: entry[f"mean_{name}"] for name in ("tokens", "characters")}
    return out | {"n": entry["expected"]} | counts | lengths


def _known(name: str, value: float | None, reason: str | None) -> dict[str, Any]:
    """A number; where there is none, its reason beside it."""
    if value is not None:
        return {name: value}
    return {name: None, f"{name}_missing": reason or "nothing was scored"}


def data_of(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Rows by domain and by source, from the counts of a build's manifest."""
    domains = counts["domains"]
    sources = {table: Counter[str]() for table in ("sft", "dpo")}
    for found in domains.values():
        for table, counter in sources.items():
            counter.update(found[f"{table}_sources"])
    return {
        "sft_rows": {domain: found["sft"] for domain, found in domains.items()},
        "pairs": {domain: found["dpo"] for domain, found in domains.items()},
        "sft_sources": dict(sources["sft"]),
        "pair_sources": dict(sources["dpo"]),
    }


def training_of(steps: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Means over the first and the last steps of each training (`sft`, `dpo`), from its log.

    Log-probabilities are of whole responses, in nats. The first steps' are the reference's own but
    for the updates of the warm-up.
    """
    out: dict[str, Any] = {}
    for stage, lines in steps.items():
        found: dict[str, Any] = {"steps": len(lines), "loss_last": _mean(lines[-EDGE:], "loss")}
        if stage == "dpo":
            for side in ("chosen", "rejected"):
                for end, some in (("first", lines[:EDGE]), ("last", lines[-EDGE:])):
                    found[f"{side}_logp_{end}"] = _mean(some, f"logps_{side}")
                    found[f"{side}_token_logp_{end}"] = _mean(some, f"token_logps_{side}")
            found["accuracy_last"] = _mean(lines[-EDGE:], "accuracies")
        out[stage] = found
    return out


def _mean(lines: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [line[name] for line in lines if name in line]
    return statistics.fmean(known) if known else None


def collected(result: Any, tasks: Mapping[str, str], run: Mapping[str, Any]) -> dict[str, Any]:
    """What the line of a finished run says, from the run's units."""
    sys.path.append(
        str(Path(__file__).resolve().parent)
    )  # behind all packages, see miniature_queue
    from miniature_measures import by_skill, reward_accuracy

    from fusechat.files import read_json, read_jsonl

    units = {unit.name for unit in result.plan.units}
    logs = {
        stage: list(read_jsonl(result[f"train/{stage}"].folder / "metrics.jsonl"))
        for stage in ("sft", "dpo")
        if f"train/{stage}" in units
    }
    compared = result["evaluate/compare"].folder
    models = numbers_of(read_json(compared / "metrics.json"), tasks)
    line = run["line"]
    skills = by_skill(compared / "items", tasks, line["split"], run["seed"], run["sizes"])
    for model, own in skills.items():
        for task, found in own.items():
            models[model][task] |= found
    out = {
        "models": models,
        "data": data_of(result["build"].manifest["counts"]),
        "training": training_of(logs),
        "plan": result.plan.key(),
    }
    if line["variant"] == "fused" and "annotate/reward" in units:
        folders = {name: result[name].folder for name in units if name.startswith(_JUDGED)}
        out["reward"] = reward_accuracy(folders)
    return out


_JUDGED = ("prompts", "sample/", "annotate/reward")


def run_all(job: Mapping[str, Any], answer: Callable[[Mapping[str, Any]], None]) -> None:
    """Do the runs of a job; a failed one is a line with its error, and the next one goes on."""
    import torch

    torch.set_num_threads(1)
    with kept_workers() as workers:
        for place, run in enumerate(job["runs"]):
            answer({"begin": place})
            wall, cpu = time.monotonic(), time.process_time() + workers()
            found = _one(job, run)
            spent = time.process_time() + workers() - cpu
            seconds = {"wall": time.monotonic() - wall, "cpu": max(spent, 0.0)}
            line = {**run["line"], **found, "date": _now()}
            line["seconds"] = {name: round(value, 2) for name, value in seconds.items()}
            answer({"line": line})


def _one(job: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    import fusechat
    from fusechat.parts import Where
    from fusechat.recipe import Cluster

    cluster = Cluster(default=Where(processes=1, threads=1, device=job["device"]))
    try:
        recipe = fusechat.load_recipe(job["recipe"], set=run["set"])
        options = fusechat.Options(wait=True)  # a run that was killed may not be gone yet
        result = fusechat.run(recipe, job["workspace"], cluster=cluster, options=options)
        return collected(result, job["tasks"], run)
    except Exception as error:  # noqa: BLE001 - kept as the line's reason; the others go on
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def build_zoo(job: Mapping[str, Any]) -> None:
    """Build a zoo from nothing; the models that are there already stay."""
    from fusechat.miniature.__main__ import main as miniature

    how = [f"--{name}={job[name]}" for name in ("seed", "size", "device")]
    code = miniature(["build", "--out", job["zoo"], *how])
    if code:
        raise SystemExit(code)


def main() -> None:
    """Read a job from standard input and do it; what libraries print goes to standard error."""
    from fusechat.executors.worker import die_with_parent

    die_with_parent()
    job = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)

        def answer(message: Mapping[str, Any]) -> None:
            out.write(json.dumps(message, ensure_ascii=False) + "\n")
            out.flush()

        build_zoo(job) if "zoo" in job else run_all(job, answer)


if __name__ == "__main__":
    main()

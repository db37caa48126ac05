"""The Ray executor: the same row-wise work over actors on the nodes of a Ray cluster.

Actors open the part once and compute batches; only the run's own process writes. What is done
is told by the shards of the workspace and never by Ray. Actors live as long as the unit, so
that the next unit gets their GPUs; dead ones are replaced by us, since Ray's own restarts would
bring back an actor that has not opened the part.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

from fusechat.errors import MissingExtraError, PartError
from fusechat.executors._ray_crew import Crew
from fusechat.executors.contract import Batch, RowOut
from fusechat.executors.local import THREAD_VARIABLES
from fusechat.parts import RowPart, Where, package_fault

_HANDED_ON = ("HF_TOKEN",)
"""Secrets that actors get with their part, beside the key that `api_key_env` names."""


class RayExecutor:
    """Computes row-wise work in Ray actors. Close it when done: no actor outlives it.

    `settings`: `address`, `actors` and `max_restarts` of the cluster file's section `ray`.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self._jobs = itertools.count()
        self._ours = False
        self._notes: list[Mapping[str, Any]] = []

    def map(
        self, part: RowPart, batches: Iterable[Batch], where: Where
    ) -> Generator[Sequence[RowOut], None, None]:
        """Compute every row once; see `RowExecutor.map`."""
        self._notes = []
        ray = self._connect()
        needs = actor_needs(part, where, ray.cluster_resources())
        source = iter(batches)
        first = list(islice(source, self._actors(ray, part, where, needs)))
        if not first:
            return
        crew = Crew(
            part=part,
            where=where,
            source=chain(first, source),
            job=next(self._jobs),
            options={**needs, "runtime_env": {"env_vars": _variables(where)}},
            environment=_secrets(part, where),
            max_restarts=self.settings["max_restarts"],
            notes=self._notes,
        )
        try:
            yield from crew.run(len(first))
        finally:
            crew.dismiss()

    def notes(self) -> Sequence[Mapping[str, Any]]:
        """What the actors of the last `map` said of the part that they opened."""
        return tuple(self._notes)

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        if self._ours:
            import ray

            self._ours = False
            ray.shutdown()

    def _connect(self) -> Any:
        if package_fault("ray", "ray"):
            raise MissingExtraError("the executor 'ray'", "ray", "ray")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ray's own, of its own future versions
            import ray

            if not ray.is_initialized():
                _join(ray, self.settings["address"])
                self._ours = True
        return ray

    def _actors(self, ray: Any, part: RowPart, where: Where, needs: Mapping[str, Any]) -> int:
        """How many actors open a part; a part that waits for a server has one, unless told."""
        if where.processes is not None:
            return where.processes
        fitting = sum(_fits(node["Resources"], needs) for node in ray.nodes() if node["Alive"])
        wanted = 1 if part.io_bound else self.settings["actors"]
        if not fitting and self.settings["actors"] is None:
            raise PartError(
                f"no node of the Ray cluster holds one actor of {part.part_name()}: it needs "
                f"{_plain(needs)}, and the nodes have {_nodes(ray)}. Give less in 'resources' "
                "(or 'gpus') of the cluster file, or add a node; where nodes are added on "
                "demand, say 'actors' (or 'processes'), and the run waits for them."
            )
        return wanted or fitting


def _join(ray: Any, address: str) -> None:
    """Connect to a cluster, or start one on this machine; nothing is printed."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        quiet["include_dashboard"] = False
    try:
        with _unheard():
            ray.init(address=address, **quiet)
    except ConnectionError as error:
        raise PartError(
            f"there is no Ray cluster at '{address}': {error}. Start one with: ray start --head "
            "(then on other nodes: ray start --address=HOST:6379), or set ray.address to local."
        ) from error


@contextmanager
def _unheard() -> Iterator[None]:
    """Connect without the thread that prints each death of a worker into our output.

    Ray has no setting for it; the deaths are in the unit's log, told by `Crew`.
    """
    from ray._private import worker

    usual = worker.listen_error_messages
    worker.listen_error_messages = lambda *_: None
    try:
        yield
    finally:
        worker.listen_error_messages = usual


def actor_needs(part: RowPart, where: Where, cluster: Mapping[str, float]) -> dict[str, Any]:
    """What one actor of the part holds, as Ray's actor options.

    `resources` says it; without `CPU` in it, `threads` CPUs; without `GPU`, the unit's `gpus`
    divided by its `processes`; else one GPU for a part that loads a model where there is any
    (for a managed server, as many as its parallel sizes say).
    """
    others = dict(where.resources)
    cpus = others.pop("CPU", float(where.threads))
    gpus = others.pop("GPU", None)
    if gpus is None and where.gpus is not None:
        gpus = where.gpus / (where.processes or 1)
    if gpus is None:
        wanted = part.on_device and where.device != "cpu" and cluster.get("GPU", 0) >= 1
        own = getattr(part, "gpus", None)
        gpus = float(own(where) if own else 1) if wanted else 0.0
    return {"num_cpus": cpus, "num_gpus": gpus, "resources": others}


def _fits(node: Mapping[str, float], needs: Mapping[str, Any]) -> int:
    """How many actors a node holds."""
    wanted = {"CPU": needs["num_cpus"], "GPU": needs["num_gpus"], **needs["resources"]}
    room = [int(node.get(name, 0) / amount) for name, amount in wanted.items() if amount > 0]
    return min(room, default=1)


def _plain(needs: Mapping[str, Any]) -> dict[str, float]:
    wanted = {"CPU": needs["num_cpus"], "GPU": needs["num_gpus"], **needs["resources"]}
    return {name: amount for name, amount in wanted.items() if amount}


def _nodes(ray: Any) -> str:
    """The resources of each living node, without Ray's own names for nodes and memory."""
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            own = {n: v for n, v in node["Resources"].items() if ":" not in n and "memory" not in n}
            found.append(str(own))
    return ", ".join(found)


def _variables(where: Where) -> dict[str, str]:
    """Environment of the actors; `PYTHONPATH` has what this process can import."""
    paths = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    threads = dict.fromkeys(THREAD_VARIABLES, str(where.threads))
    return {**threads, "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": paths}


def _secrets(part: RowPart, where: Where) -> dict[str, str]:
    """Keys go to actors inside a call; a runtime environment would be shown and logged by Ray."""
    names = (where.api_key_env, getattr(part, "api_key_env", None), *_HANDED_ON)
    return {name: os.environ[name] for name in names if name and name in os.environ}

"""How a run of any size would go: hours, disk, files, memory, and what breaks first. Pure.

Units run one after the other, as the run does them. A unit ends when the slowest of what it
needs is done: GPUs, the processor of the process that writes, its client, or the disk's
`fsync`s; these work at the same time. What was measured comes in as `UnitCosts`
(`benchmarks/unit_costs.py`), what was not as `Fleet`: those are assumptions of the user.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

DIGEST_BITS = 64
"""Of `made_from` and the ids (`digests.DIGEST_LENGTH` hex characters)."""
MANY_FILES = 100_000
"""In one folder: listing it then takes seconds on shared file systems (Lustre, NFS)."""


@dataclass(frozen=True)
class UnitCosts:
    """What a row takes apart from the models. Defaults: measured, see docs/scale.md."""

    sample_cpu: float = 220e-6
    """CPU seconds of the writing process a response: request, journal, shard, index."""
    client_cpu: float = 1e-3
    """CPU seconds of the client a request: an assumption; `benchmarks/sampling_client.py` measures
    it on your machine."""
    samples_per_request: int = 5
    """The `n` of a request."""
    adopt_cpu: float = 174e-6
    """CPU seconds a response that is taken over from another unit."""
    annotate_cpu: float = 109e-6
    """CPU seconds of the writing process a score."""
    build_cpu: float = 5.1e-6
    """CPU seconds a response: 16.3 s for 3.2 million (`benchmarks/build_pairs.py`)."""
    response_bytes: float = 705.0
    """On disk with its index, at 430 tokens; log-probs or other details of a server come on top."""
    score_bytes: float = 36.0
    set_bytes: float = 1900.0
    """Of the prompt and the built sets, a prompt."""
    prompt_memory: float = 2835.0
    """Bytes of memory a prompt while the prompt sets are read."""
    build_memory: float = 221.0
    """Bytes of memory a prompt in a build (`benchmarks/build_pairs.py`)."""
    fixed_memory: float = 180e6
    fsyncs_per_row: float = 0.2
    """Of a sampling journal: one for each group of rows, at least a request's. Local workers hand
    in larger groups (0.05 measured)."""
    annotate_fsyncs_per_row: float = 0.045
    fsync_seconds: float = 2.5e-3
    """Of one `fsync`, wall time; depends on the disk."""
    shard_rows: int = 1000
    index_rows: int = 20_000


@dataclass(frozen=True)
class SourceLoad:
    """One source of the run. The rate is an assumption, not a measurement of ours."""

    name: str
    samples: int
    """Responses a prompt."""
    tokens_per_second: float
    """Response tokens of one GPU, its share of a server that is full, prompts included."""
    gpus: int
    """GPUs that serve it while it runs."""


@dataclass(frozen=True)
class Fleet:
    """The run, and the machines; all of it assumed by who asks."""

    prompts: int
    sources: tuple[SourceLoad, ...]
    prompt_tokens: float = 190.0
    response_tokens: float = 430.0
    """Means; those of the 805 AlpacaEval prompts' responses are near."""
    scores_per_second: float = 20.0
    """Of one GPU with the reward model."""
    scoring_gpus: int = 8
    gpus_per_node: int = 8
    writers: int = 1
    """Processes that write shards of a unit: the run, and each `fusechat worker`."""
    workspaces: int = 1
    """Into how many workspaces the prompts are divided; they run at the same time, each with
    `writers`, and share the GPUs."""


@dataclass(frozen=True)
class Stage:
    """One unit of the run: the hours that each thing it needs would take alone."""

    name: str
    needs: Mapping[str, float]
    """`GPUs`, `writer`, `client`, `fsync` -> hours."""
    gpus: int = 0

    @property
    def hours(self) -> float:
        """Until the slowest is done."""
        return max(self.needs.values())

    @property
    def slowest(self) -> str:
        """What it waits for."""
        return max(self.needs, key=lambda name: self.needs[name])

    @property
    def gpu_hours(self) -> float:
        """Held, idle or not."""
        return self.hours * self.gpus

    def share(self, name: str) -> float:
        """How busy something is while the unit runs."""
        return self.needs.get(name, 0.0) / self.hours if self.hours else 0.0


@dataclass(frozen=True)
class Outcome:
    """What a run takes."""

    stages: tuple[Stage, ...]
    nodes: int
    disk: float
    """Bytes, all workspaces."""
    files: int
    files_in_a_folder: int
    """In the fullest one."""
    memory: Mapping[str, float]
    """Unit -> bytes of the process that does it, in one workspace."""
    collision: float
    """Chance that any two different rows of a workspace have one digest."""
    limits: tuple[str, ...] = field(default=())
    """What would break or hold up the run, the worst first."""

    @property
    def hours(self) -> float:
        """Of the whole data half."""
        return sum(stage.hours for stage in self.stages)

    @property
    def gpu_hours(self) -> float:
        """Held by sampling and scoring."""
        return sum(stage.gpu_hours for stage in self.stages)


def tokens_per_second(parameters: float, peak: float = 989e12, used: float = 0.1) -> float:
    """Response tokens of one GPU by a rule of thumb: an assumption, to be replaced by a pilot's.

    A token takes two operations a parameter; a full server reaches the share `used` of `peak`
    operations a second (default: bf16 of an H100 SXM, dense), everything included.
    """
    return used * peak / (2 * parameters)


def simulate(fleet: Fleet, costs: UnitCosts | None = None, memory_limit: float = 64e9) -> Outcome:
    """The run of `fleet`. `memory_limit`: bytes that the machine of a run has."""
    costs = costs or UnitCosts()
    prompts = math.ceil(fleet.prompts / fleet.workspaces)
    samples = sum(source.samples for source in fleet.sources)
    stages = (
        *(_sampling(fleet, source, costs) for source in fleet.sources),
        _scoring(fleet, samples, costs),
        Stage("build", {"writer": fleet.prompts * samples * costs.build_cpu
                        / 3600 / fleet.workspaces}),
    )  # fmt: skip
    files, fullest = _files(fleet, prompts, costs)
    memory = {
        "prompts": costs.fixed_memory + prompts * costs.prompt_memory,
        "build": costs.fixed_memory + prompts * costs.build_memory,
    }
    rows = prompts * samples
    outcome = Outcome(
        stages=stages,
        nodes=math.ceil(max(stage.gpus for stage in stages) / fleet.gpus_per_node),
        disk=_disk(fleet, samples, costs),
        files=files,
        files_in_a_folder=fullest,
        memory=memory,
        collision=-math.expm1(-rows * (rows - 1) / 2 / 2**DIGEST_BITS),
    )
    return Outcome(**{**vars(outcome), "limits": tuple(_limits(outcome, memory_limit))})


def _sampling(fleet: Fleet, source: SourceLoad, costs: UnitCosts) -> Stage:
    rows = fleet.prompts * source.samples
    writers = fleet.writers * fleet.workspaces
    requests = rows / min(costs.samples_per_request, source.samples)
    seconds = {
        "GPUs": rows * fleet.response_tokens / (source.tokens_per_second * source.gpus),
        "writer": rows * costs.sample_cpu / writers,
        "client": requests * costs.client_cpu / writers,
        "fsync": rows * costs.fsyncs_per_row * costs.fsync_seconds / writers,
    }
    needs = {name: value / 3600 for name, value in seconds.items()}
    return Stage(f"sample/{source.name}", needs, source.gpus)


def _scoring(fleet: Fleet, samples: int, costs: UnitCosts) -> Stage:
    rows = fleet.prompts * samples
    writers = fleet.writers * fleet.workspaces
    seconds = {
        "GPUs": rows / (fleet.scores_per_second * fleet.scoring_gpus),
        "writer": rows * costs.annotate_cpu / writers,
        "fsync": rows * costs.annotate_fsyncs_per_row * costs.fsync_seconds / writers,
    }
    needs = {name: value / 3600 for name, value in seconds.items()}
    return Stage("annotate", needs, fleet.scoring_gpus)


def _files(fleet: Fleet, prompts: int, costs: UnitCosts) -> tuple[int, int]:
    """All files, and those of the fullest folder; shards close at prompt boundaries."""
    tables = [prompts * source.samples for source in fleet.sources]
    tables.append(sum(tables))  # the scores
    shards = [math.ceil(rows / costs.shard_rows) for rows in tables]
    indexes = [math.ceil(rows / costs.index_rows) for rows in tables]
    small = 2 * math.ceil(prompts / costs.shard_rows)  # the prompts; SFT, DPO and dropped
    return fleet.workspaces * (sum(shards) + sum(indexes) + small), max(shards)


def _disk(fleet: Fleet, samples: int, costs: UnitCosts) -> float:
    scale = fleet.response_tokens / 430
    row = costs.response_bytes * scale + costs.score_bytes
    return fleet.prompts * (samples * row + costs.set_bytes * scale)


def _limits(outcome: Outcome, memory_limit: float) -> list[str]:
    """What would break or hold up the run, the worst first."""
    found: list[tuple[float, str]] = []
    for unit, size in outcome.memory.items():
        if size > memory_limit:
            told = f"memory of {unit}: {size / 1e9:,.0f} GB of {memory_limit / 1e9:,.0f} GB"
            found.append((size / memory_limit, told))
    for stage in outcome.stages:
        gpus = stage.needs.get("GPUs")
        if gpus and stage.slowest != "GPUs":
            times = stage.hours / gpus
            told = f"{stage.name}: the {stage.slowest} is the limit, GPUs wait ({times:.1f} x)"
            found.append((times, told))
    if outcome.files_in_a_folder > MANY_FILES:
        times = outcome.files_in_a_folder / MANY_FILES
        found.append((times, f"{outcome.files_in_a_folder:,} files in one folder"))
    if outcome.collision > 1e-3:
        told = f"{outcome.collision:.1%} chance that two rows of a workspace share a 64-bit digest"
        found.append((outcome.collision / 1e-3, told))
    return [told for _, told in sorted(found, key=lambda one: -one[0])]


def headroom(stage: Stage) -> tuple[str, float]:
    """What would be the limit next, and at how many times the GPUs."""
    gpus = stage.needs["GPUs"]
    others = {name: hours for name, hours in stage.needs.items() if name != "GPUs"}
    name = max(others, key=lambda one: others[one])
    return name, gpus / others[name] if others[name] else math.inf

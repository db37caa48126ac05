"""What every model of the zoo is: architecture, tokenizer, pretraining mixtures, steps, seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from fusechat.miniature.problem import Problem
from fusechat.miniature.world import DOMAINS, problems

SOURCES = ("gemma", "mistral", "qwen", "llama")
"""The experts; each one's `best` says in what."""


@dataclass(frozen=True)
class Mixture:
    """The pretraining data of some of a model's steps."""

    steps: int
    weights: Mapping[str, float]
    """Domain -> share of the examples."""
    full: Mapping[str, float]
    """Domain -> share of full (composed) problems among that domain's examples."""
    form: Literal["chat", "document"] = "chat"
    """In the model's chat template, or as plain text (`Question: ... Answer: ...`)."""


@dataclass(frozen=True)
class ModelSpec:
    """One language model of the zoo."""

    name: str
    family: str
    """`gemma`, `mistral`, `qwen` or `llama`: architecture and chat template."""
    best: str | None
    """The domain it is the expert of."""
    vocabulary: int
    digits: int
    """Most digits in one token of a number."""
    hidden: int
    layers: int
    feed_forward: int
    mixtures: tuple[Mixture, ...]
    """One after the other, under one learning-rate schedule."""
    batch: int = 32
    learning_rate: float = 3e-3
    seed: int = 1

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return sum(mixture.steps for mixture in self.mixtures)


def _expert(domain: str, steps: int, own: float) -> tuple[Mixture, ...]:
    weights = {d: own if d == domain else (1 - own) / 3 for d in DOMAINS}
    return (Mixture(steps, weights, {d: 0.8 if d == domain else 0.0 for d in DOMAINS}),)


_EVEN = dict.fromkeys(DOMAINS, 0.25)
_TARGET = (
    Mixture(750, _EVEN, dict.fromkeys(DOMAINS, 0.8), "document"),
    Mixture(200, _EVEN, dict.fromkeys(DOMAINS, 0.0)),
)
_SIZE = {"hidden": 128, "layers": 3, "feed_forward": 320}
MODELS = {
    spec.name: spec
    for spec in (
        ModelSpec("gemma", "gemma", "chat", 900, 1, **_SIZE, mixtures=_expert("chat", 850, 0.5)),
        ModelSpec(
            "mistral", "mistral", "code", 700, 2, **_SIZE, mixtures=_expert("code", 850, 0.4)
        ),
        ModelSpec("qwen", "qwen", "zh", 1000, 1, **_SIZE, mixtures=_expert("zh", 850, 0.5)),
        ModelSpec("llama", "llama", "math", 800, 3, **_SIZE, mixtures=_expert("math", 850, 0.35)),
        ModelSpec(
            "target", "llama", None, 640, 1, hidden=96, layers=3, feed_forward=256, mixtures=_TARGET
        ),
    )
}


def examples(mixture: Mixture, seed: object) -> Iterator[Problem]:
    """Endless pretraining examples of a mixture; the same for the same arguments."""
    # The seed's words are fixed: others would give other models than the shipped ones.
    rng = Random(f"meals|{seed}")
    streams = {d: problems(d, "pretrain", seed, 1 - mixture.full[d]) for d in mixture.weights}
    names, weights = list(mixture.weights), list(mixture.weights.values())
    while True:
        yield next(streams[rng.choices(names, weights)[0]])

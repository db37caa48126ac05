"""What every model of the zoo is and eats: architecture, tokenizer, diet, steps and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from fusechat.miniature.world import DOMAINS, Problem, problems

SOURCES = ("gemma", "mistral", "qwen", "llama")
"""The experts; each one's `best` says in what."""


@dataclass(frozen=True)
class Diet:
    """What a model is trained on for some of its steps."""

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
    diets: tuple[Diet, ...]
    """One after the other, under one learning-rate schedule."""
    batch: int = 32
    learning_rate: float = 3e-3
    seed: int = 1

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return sum(diet.steps for diet in self.diets)


def _expert(domain: str, steps: int, own: float) -> tuple[Diet, ...]:
    weights = {d: own if d == domain else (1 - own) / 3 for d in DOMAINS}
    return (Diet(steps, weights, {d: 0.8 if d == domain else 0.0 for d in DOMAINS}),)


_EVEN = dict.fromkeys(DOMAINS, 0.25)
_TARGET = (
    Diet(750, _EVEN, dict.fromkeys(DOMAINS, 0.8), "document"),
    Diet(200, _EVEN, dict.fromkeys(DOMAINS, 0.0)),
)
_SIZE = {"hidden": 128, "layers": 3, "feed_forward": 320}
MODELS = {
    spec.name: spec
    for spec in (
        ModelSpec("gemma", "gemma", "chat", 900, 1, **_SIZE, diets=_expert("chat", 850, 0.5)),
        ModelSpec("mistral", "mistral", "code", 700, 2, **_SIZE, diets=_expert("code", 850, 0.4)),
        ModelSpec("qwen", "qwen", "zh", 1000, 1, **_SIZE, diets=_expert("zh", 850, 0.5)),
        ModelSpec("llama", "llama", "math", 800, 3, **_SIZE, diets=_expert("math", 850, 0.35)),
        ModelSpec(
            "target", "llama", None, 640, 1, hidden=96, layers=3, feed_forward=256, diets=_TARGET
        ),
    )
}


def meals(diet: Diet, seed: object) -> Iterator[Problem]:
    """Endless pretraining examples of a diet."""
    rng = Random(f"meals|{seed}")
    streams = {d: problems(d, "pretrain", seed, 1 - diet.full[d]) for d in diet.weights}
    names, weights = list(diet.weights), list(diet.weights.values())
    while True:
        yield next(streams[rng.choices(names, weights)[0]])

"""What every model of the zoo is and eats: architecture, tokenizer, diet, steps and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from fusechat.miniature.world import DOMAINS, Problem, problems

SOURCES = ("gemma", "mistral", "qwen", "llama")
"""The experts, in the order of `DOMAINS` below each name's `best`."""


@dataclass(frozen=True)
class Diet:
    """Which problems a model is pretrained on."""

    weights: Mapping[str, float]
    """Domain -> share of the examples."""
    full: Mapping[str, float]
    """Domain -> share of full (composed) problems among that domain's examples."""


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
    diet: Diet
    steps: int
    batch: int = 32
    learning_rate: float = 3e-3
    seed: int = 1


def _expert(domain: str) -> Diet:
    weights = {d: 0.7 if d == domain else 0.1 for d in DOMAINS}
    return Diet(weights, {d: 0.8 if d == domain else 0.0 for d in DOMAINS})


_SIZE = {"hidden": 128, "layers": 3, "feed_forward": 320}
MODELS = {
    spec.name: spec
    for spec in (
        ModelSpec("gemma", "gemma", "chat", 900, 1, **_SIZE, diet=_expert("chat"), steps=1500),
        ModelSpec("mistral", "mistral", "code", 700, 2, **_SIZE, diet=_expert("code"), steps=1500),
        ModelSpec("qwen", "qwen", "zh", 1000, 1, **_SIZE, diet=_expert("zh"), steps=1500),
        ModelSpec("llama", "llama", "math", 800, 3, **_SIZE, diet=_expert("math"), steps=1500),
        ModelSpec(
            "target", "llama", None, 640, 1, hidden=96, layers=3, feed_forward=256,
            diet=Diet(dict.fromkeys(DOMAINS, 0.25), dict.fromkeys(DOMAINS, 0.05)), steps=1500,
        ),
    )
}  # fmt: skip


def meals(diet: Diet, seed: object) -> Iterator[Problem]:
    """Endless pretraining examples of a diet."""
    rng = Random(f"meals|{seed}")
    streams = {d: problems(d, "pretrain", seed, 1 - diet.full[d]) for d in diet.weights}
    names, weights = list(diet.weights), list(diet.weights.values())
    while True:
        yield next(streams[rng.choices(names, weights)[0]])

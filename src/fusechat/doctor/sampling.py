"""Sampling settings against what the model's own generation config and weights say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fusechat.doctor.findings import Finding

_PLAIN = {
    "temperature": 1.0, "top_p": 1.0, "top_k": None, "min_p": None, "repetition_penalty": 1.0,
    "presence_penalty": 0.0, "frequency_penalty": 0.0,
}  # fmt: skip
"""Sampling parameters, and the value at which each changes nothing."""


def parameters(part: Any) -> dict[str, Any]:
    """The sampling parameters that a source part sets, its `extra_body` among them."""
    extra = getattr(part, "extra_body", None)
    found = dict(extra) if isinstance(extra, Mapping) else {}
    found |= {name: getattr(part, name) for name in _PLAIN if getattr(part, name, None) is not None}
    return {name: value for name, value in found.items() if name in _PLAIN}


def own_settings(part: Any, generation: Mapping[str, Any], served: bool) -> Iterator[Finding]:
    """Where the recipe samples otherwise than the model's generation_config.json recommends."""
    asked = parameters(part)
    other, filled = [], []
    for name, plain in _PLAIN.items():
        own = generation.get(name)
        if own is None or own == plain or (name == "top_k" and own in (0, -1)):
            continue
        if name in asked and asked[name] != own:
            other.append(f"{name} {own} (here {asked[name]})")
        elif name not in asked and served:
            filled.append(f"{name} {own}")
        elif name not in asked:
            other.append(f"{name} {own} (here {'none' if plain is None else plain})")
    if other:
        yield Finding(
            "note", "sampling-differs",
            f"its generation_config.json recommends {', '.join(other)}.",
            "Say them in the recipe if they are wanted; a recipe of a paper may want its own.",
        )  # fmt: skip
    if filled:
        yield Finding(
            "note", "sampling-filled-in",
            f"not in the recipe: {', '.join(filled)}; a vLLM server takes that from the model's "
            "generation_config.json, other servers may not.",
            "Say it in the recipe, so that every server samples alike.",
        )  # fmt: skip


def greedy(part: Any, most_samples: int | None) -> Iterator[Finding]:
    """Several samples a prompt where each would be the likeliest one."""
    if getattr(part, "temperature", None) == 0 and (most_samples or 1) > 1:
        yield Finding(
            "warning", "greedy-samples",
            f"temperature 0 gives the same answer {most_samples} times.",
            "Raise temperature, or take one sample a prompt.",
        )  # fmt: skip


def number_format(part: Any, config: Any) -> Iterator[Finding]:
    """Weights that are computed in a format with a smaller range than they were made in."""
    made = str(getattr(config.get_text_config(), "dtype", None) or "").removeprefix("torch.")
    if getattr(part, "dtype", None) == "float16" and made == "bfloat16":
        yield Finding(
            "warning", "dtype-narrower",
            "the weights are bfloat16 and dtype is float16, whose largest number is 65504: "
            "activations may overflow (Gemma's do).",
            "Set dtype: bfloat16, or float32.",
        )  # fmt: skip

"""Weights of the sources of a prompt (FuseRL)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fusechat.groups import Array


def softmax(scores: Sequence[float | None], temperature: float) -> list[float]:
    """Weights of some sources by their best scores, summing to 1; equal ones without scores."""
    if any(score is None for score in scores):
        return [1.0 / len(scores)] * len(scores)
    known = np.array(scores, np.float64)
    with np.errstate(over="ignore"):
        spread = np.exp((known - known.max()) / temperature)
    found: list[float] = (spread / spread.sum()).tolist()
    return found


def softmax_all(scores: Array, prompt: Array, temperature: float) -> Array:
    """The same of the picks of many prompts; `prompt`: of each pick, only growing. `[picks]`."""
    if not len(scores):
        return np.zeros(0)
    begins = np.flatnonzero(np.diff(prompt, prepend=-1))
    sizes = np.diff(np.append(begins, len(prompt)))
    if np.isnan(scores).any():
        return np.repeat(1.0 / sizes, sizes)
    highest = np.repeat(np.maximum.reduceat(scores, begins), sizes)
    with np.errstate(over="ignore"):
        spread = np.exp((scores - highest) / temperature)
    return np.asarray(spread / np.repeat(np.add.reduceat(spread, begins), sizes))

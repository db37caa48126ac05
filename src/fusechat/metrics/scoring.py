"""The items of one benchmark and one model as columns, from which a row's score is made. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Items:
    """`n` items in the order of the benchmark; an item of two turns is there twice."""

    names: tuple[str, ...]
    """Prompt id, with `#2` behind it for a second turn: the same for every model."""
    values: Floats
    """`[n]` in [0, 1]: right or wrong, a rating / 10, a preference, or the mean of an item's
    samples. A response that was cut or empty and could not be judged is 0; nan where the item
    says nothing about the model (the judge failed, no gold answer, the request failed)."""
    groups: tuple[str, ...]
    """Each item's category, by which some benchmarks average; the prompt's domain."""
    characters: Floats
    """`[n]` of the response's text (mean of its samples); nan where there is none."""
    tokens: Floats
    """`[n]`, as `characters`."""
    details: tuple[Mapping[str, Any], ...]
    """What the annotator said of each item beside the value (of the first sample)."""

    def __len__(self) -> int:
        return len(self.names)

    def known(self) -> npt.NDArray[np.bool_]:
        """`[n]`: which items have a value."""
        return np.isfinite(self.values)

    def take(self, places: Sequence[int] | npt.NDArray[np.intp]) -> Items:
        """The items at `places`, with repeats: one resample of a bootstrap."""
        at = np.asarray(places, dtype=np.intp)
        return Items(
            tuple(self.names[i] for i in at), self.values[at], tuple(self.groups[i] for i in at),
            self.characters[at], self.tokens[at], tuple(self.details[i] for i in at),
        )  # fmt: skip


def group_means(items: Items) -> dict[str, float]:
    """Group -> mean of its known values, in the order of first appearance."""
    found: dict[str, list[float]] = {}
    for group, value in zip(items.groups, items.values.tolist(), strict=True):
        if np.isfinite(value):
            found.setdefault(group, []).append(value)
    return {group: sum(values) / len(values) for group, values in found.items()}

"""Rows that training leaves aside to look at: chosen by prompt, kept as a table of their own.

`held_out/` in a training unit's folder has rows of the type that was trained on, each of which
fits the model's context. All rows of a prompt are on one side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from fusechat.digests import digest
from fusechat.faultpoints import reach
from fusechat.records import Demonstration, Pair, Triple
from fusechat.tables import read_table, shards, write_table

TABLE = "held_out"
LEAST_ROWS = 4
"""Fewer rows say nothing of a model (the share ranked right moves by a third with each), so that
training on them is the better use."""

Row = Demonstration | Pair | Triple


def choose_held_out(prompt_ids: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """Prompts whose rows are held out; `prompt_ids` has one entry a row, in any order.

    Prompts are taken by the digest of `seed` and their id until they have `share` of all rows,
    in [0, 1), rounded; a prompt that would take more than that is passed over. So the rows of a
    prompt stay together, at least one row is left for training, and more rows of other prompts
    move few of them to the other side. Empty where fewer than `LEAST_ROWS` would be held out.
    """
    rows = Counter(prompt_ids)
    wanted = min(round(share * len(prompt_ids)), len(prompt_ids) - 1)
    if wanted < LEAST_ROWS:
        return frozenset()
    found: list[str] = []
    held = 0
    for prompt in sorted(rows, key=lambda prompt: (digest([TABLE, seed, prompt]), prompt)):
        if held + rows[prompt] <= wanted:
            found.append(prompt)
            held += rows[prompt]
    return frozenset(found) if held >= LEAST_ROWS else frozenset()


def split_places(prompt_ids: Sequence[str], held: Collection[str]) -> tuple[list[int], list[int]]:
    """Places of the rows to train on, and of those that are held out, each in their order."""
    sides: tuple[list[int], list[int]] = ([], [])
    for place, prompt in enumerate(prompt_ids):
        sides[prompt in held].append(place)
    return sides


def write_held_out(folder: Path, rows: Iterable[Row], row_type: type[Row]) -> None:
    """Keep the held-out rows, also where there are none, in a training unit's folder."""
    write_table(folder / TABLE, rows, row_type)
    reach("train.held_out")


def read_held_out(folder: Path, row_type: type[Row]) -> Iterator[Row]:
    """The held-out rows of a training unit's folder; none where it was made without any."""
    if shards(folder / TABLE):
        yield from read_table(folder / TABLE, row_type)

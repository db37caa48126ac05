"""What the units between a benchmark's responses and its scores are called, and what they keep.

evaluate/<task>/prompts                       prompts/   all items
evaluate/<task>/<model>/sample[@0.7]          data/      one unit a temperature
evaluate/<task>/<model>/turn_2/prompts        prompts/   conversations with the first answer in
                                              links/     whose second turn each is
evaluate/<task>/<model>/turn_2/sample[@0.7]   data/
evaluate/<task>/<model>/judge/prompts         prompts/   what a judge is asked
                                              asked/     about which response
evaluate/<task>/<model>/judge/sample          data/      its answers, as it gave them
evaluate/<task>/<model>/judge/again/prompts   prompts/   once more, after one off the format
                                              asked/
evaluate/<task>/<model>/judge/again/sample    data/
evaluate/<task>/<model>/annotate[@paper]      data/      scores
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fusechat import tables
from fusechat.records import Prompt, Record, Response

TURN_2, JUDGE, AGAIN = "turn_2", "judge", "judge/again"


class Link(Record):
    """The prompt of a later turn, and the one that its conversation began with."""

    prompt_id: str
    first_id: str


class Asked(Record):
    """One question to a judge, and what it is about."""

    prompt_id: str
    """Of the question: two that read the same are one prompt."""
    item_id: str
    """Of the prompt that was answered."""
    response_id: str
    game: str
    """Which of the questions about that response."""


def is_sample(unit: str) -> bool:
    """Whether a unit holds responses of an evaluated model (not of a judge)."""
    steps = unit.split("/")
    return steps[-1].partition("@")[0] == "sample" and JUDGE not in steps


def responses(inputs: Mapping[str, Path], units: Iterable[str]) -> Iterator[Response]:
    """The responses of some units, one unit after the other."""
    for unit in units:
        yield from tables.read_table(inputs[unit] / "data", Response)


def prompts_by_id(inputs: Mapping[str, Path], units: Iterable[str]) -> dict[str, Prompt]:
    """Id -> prompt, of all prompt tables among `units`, in their order."""
    found = (unit for unit in units if unit.endswith("/prompts") and JUDGE not in unit.split("/"))
    return {
        prompt.id: prompt
        for unit in found
        for prompt in tables.read_table(inputs[unit] / "prompts", Prompt)
    }

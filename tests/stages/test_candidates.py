"""Input rows as streams: the same candidates from tables side by side as from all in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fusechat.errors import DamagedError
from fusechat.records import Prompt, Request, Response
from fusechat.stages.candidates import Candidates, Requests
from fusechat.stages.entries import AnnotatorEntry, SourceEntry
from fusechat.tables import write_table
from stub_parts import Counted, CountedLength

PROMPTS = [Prompt.of(f"q{n}", domain="chat" if n % 3 else "math") for n in range(9)]


def responses(source: str, prompts: list[Prompt], samples: int) -> list[Response]:
    entry = SourceEntry(part=Counted(), samples=samples)
    return [
        Request(
            prompt=prompt, source=source, index=index, seed=0, model="m", made_from=f"{index}"
        ).response("x", "stop")
        for prompt in prompts
        for index in range(entry.samples_for(prompt.domain) or 1)
    ]


def candidates(folder: Path, tables: dict[str, list[Response]], **entry: Any) -> Candidates:
    write_table(folder / "prompts", PROMPTS, Prompt, shard_rows=4)
    for name, rows in tables.items():
        write_table(folder / name / "data", rows, Response, shard_rows=5)
    return Candidates(
        AnnotatorEntry(part=CountedLength(), **entry),
        folder / "prompts",
        {f"sample/{name}": folder / name for name in tables},
        "length",
    )


def places(found: Candidates) -> list[tuple[str, str, int]]:
    rows = [row for group in found for row in group]
    assert [row.response.id for row in rows] == [key["id"] for key in found.places()]
    return [(row.prompt.id, row.response.source, row.response.index) for row in rows]


def test_all_sources_responses_to_a_prompt_come_together_in_prompt_and_recipe_order(
    tmp_path: Path,
) -> None:
    """b has gaps, c no row at all."""
    tables = {
        "b": responses("b", PROMPTS[2:4] + PROMPTS[7:], 2),
        "a": responses("a", PROMPTS, 1),
        "c": [],
    }
    found = candidates(tmp_path, tables)
    assert found.survey() == 17
    expected = []
    for number, prompt in enumerate(PROMPTS):
        if number in (2, 3, 7, 8):
            expected += [(prompt.id, "b", 0), (prompt.id, "b", 1)]
        expected.append((prompt.id, "a", 0))
    assert places(found) == expected
    assert places(found) == expected, "they can be gone through again"


def test_tables_in_another_order_give_the_same_candidates(tmp_path: Path) -> None:
    tables = {"a": responses("a", PROMPTS, 2), "b": responses("b", PROMPTS, 1)}
    ordered = candidates(tmp_path / "one", tables)
    mixed = candidates(tmp_path / "two", {"a": tables["a"], "b": tables["b"][::-1]})
    assert ordered.survey() == mixed.survey() == 27
    assert places(mixed) == places(ordered)


def test_only_prompts_of_the_annotators_domains_are_judged(tmp_path: Path) -> None:
    found = candidates(tmp_path, {"a": responses("a", PROMPTS, 2)}, domains=("math",))
    assert found.survey() == 6
    assert {place[0] for place in places(found)} == {PROMPTS[n].id for n in (0, 3, 6)}


def test_a_response_to_a_prompt_that_is_not_there_is_a_damage_with_a_name(tmp_path: Path) -> None:
    strange = Prompt.of("somebody else's", domain="chat")
    found = candidates(tmp_path, {"a": responses("a", [*PROMPTS, strange], 1)})
    with pytest.raises(DamagedError, match="1 prompts that were answered are not in it"):
        found.survey()


def test_requests_are_made_again_and_again_the_same_and_counted_without_being_made(
    tmp_path: Path,
) -> None:
    write_table(tmp_path / "prompts", PROMPTS, Prompt)
    entry = SourceEntry(part=Counted(), samples={"chat": 3})
    asked = Requests(entry, tmp_path / "prompts", "s", seed=1)
    assert asked.survey() == (18, 0)
    groups = list(asked)
    assert [len(group) for group in groups] == [3] * 6
    rows = [row for group in groups for row in group]
    assert rows == [row for group in asked for row in group]
    assert len({row.made_from for row in rows}) == 18
    assert not list(asked.dropped())

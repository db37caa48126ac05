"""Reading the judged responses: block by block as at once, in whatever order the tables are."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.digests import digest_bytes
from fusechat.errors import DamagedError
from fusechat.parts import Group, Groups
from fusechat.records import Response, Score, is_whole
from fusechat.stages import groups as reading
from fusechat.stages.groups import PromptTable, Tables, blocks, groups_of, texts_of
from fusechat.stages.slim import INDEX, _whole, is_indexed, responses, text_digests, write_index
from fusechat.tables import read_table, shards, write_table

Inputs = Mapping[str, Path]


def fill(workspace: Any, prompts: int = 23) -> Inputs:
    """Prompts with 0 to 3 responses of each source; `rm` judges all of them, `math` some."""
    draw = random.Random(5)
    for number in range(prompts):
        sources: dict[str, list[Any]] = {}
        for source in ("gemma", "qwen"):
            rows: list[dict[str, Any]] = [
                {
                    "rm": draw.choice([0.1, 0.2, "error", "unscorable"]),
                    "text": draw.choice(["x", "您好", "", "\u3000", " y"]),
                    "finish": draw.choice(["stop", "length", "unknown"]),
                }
                for _ in range(draw.randrange(4))
            ]
            if number % 3 == 0:
                rows = [{**row, "math": draw.choice([0, 1])} for row in rows]
            sources[source] = rows
        workspace.add(f"q{number}", "math" if number % 3 == 0 else "chat", **sources)
    inputs: Inputs = workspace.context({}).inputs
    return inputs


def seen(groups: Groups) -> list[Group]:
    return [groups.group(number) for number in range(len(groups.prompt_ids))]


def expected(workspace: Any) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """The same from the records: prompt -> id, source, index, whole, scores of each response."""
    scores = {
        (s.response_id, name): (s.status, s.value)
        for name, rows in workspace.scores.items()
        for s in rows
    }
    out = []
    for prompt in workspace.prompts:
        rows = [
            (
                r.id, r.source, r.index, r.whole, r.text,
                {n: scores[r.id, n] for n in workspace.scores if (r.id, n) in scores},
            )
            for found in workspace.responses.values()
            for r in found
            if r.prompt_id == prompt.id
        ]  # fmt: skip
        out.append((prompt.id, rows))
    return out


def found(inputs: Inputs, per_block: int) -> list[tuple[str, list[tuple[Any, ...]]]]:
    out = []
    for groups in blocks(inputs, per_block):
        texts = texts_of(inputs, groups, range(len(groups)))
        for number, group in enumerate(seen(groups)):
            begin = int(groups.starts[number])
            rows = [
                (
                    r.response_id, r.source, r.index, r.whole, texts[begin + place],
                    {name: (j.status, j.value) for name, j in r.scores.items()},
                )
                for place, r in enumerate(group.responses)
            ]  # fmt: skip
            out.append((group.prompt_id, rows))
    return out


def rewrite(folder: Path, row_type: type[Any], change: Callable[[list[Any]], list[Any]]) -> None:
    rows = list(read_table(folder / "data", row_type))
    write_table(folder / "data", change(rows), row_type, 7)


def streams(inputs: Inputs) -> bool:
    """Whether the tables are read side by side and not at once."""
    prompts = PromptTable.read(inputs["prompts"])
    return reading._reader(Tables.of(inputs), prompts, 4) is not None


@pytest.mark.parametrize("per_block", [1, 4, 1000])
@pytest.mark.parametrize("indexed", [True, False])
def test_blocks_hold_every_response_with_its_scores_and_text(
    build_workspace: Any, per_block: int, indexed: bool
) -> None:
    inputs = fill(build_workspace)
    for name in inputs if indexed else ():
        if name != "prompts":
            write_index(inputs[name])
            assert is_indexed(inputs[name])
    assert streams(inputs)
    assert found(inputs, per_block) == expected(build_workspace)


def shuffled(rows: list[Any]) -> list[Any]:
    return random.Random(1).sample(rows, len(rows))


@pytest.mark.parametrize(("unit", "row_type"), [("sample/qwen", Response), ("annotate/rm", Score)])
def test_a_table_in_no_order_is_read_at_once_with_the_same_result(
    build_workspace: Any, unit: str, row_type: type[Any]
) -> None:
    inputs = fill(build_workspace)
    rewrite(inputs[unit], row_type, shuffled)
    assert not streams(inputs)
    assert found(inputs, 4) == expected(build_workspace)


def test_scores_may_stand_source_after_source(build_workspace: Any) -> None:
    inputs = fill(build_workspace)
    place = {r.id: s for s, rows in build_workspace.responses.items() for r in rows}
    for name in ("annotate/rm", "annotate/math"):
        rewrite(inputs[name], Score, lambda rows: sorted(rows, key=lambda s: place[s.response_id]))
    assert streams(inputs)
    assert found(inputs, 4) == expected(build_workspace)


def test_scores_of_one_annotator_may_come_from_a_unit_for_each_source(
    build_workspace: Any,
) -> None:
    inputs = dict(fill(build_workspace))
    place = {r.id: s for s, rows in build_workspace.responses.items() for r in rows}
    whole = inputs.pop("annotate/rm")
    for source in ("qwen", "gemma"):
        part = whole.with_name(f"rm-{source}")
        shutil.copytree(whole, part)
        rewrite(part, Score, lambda rows, s=source: [r for r in rows if place[r.response_id] == s])
        inputs[f"annotate/rm@{source}"] = part
    assert streams(inputs)
    assert found(inputs, 4) == expected(build_workspace)


def test_scores_of_responses_that_are_gone_and_pairwise_ones_are_left_out(
    build_workspace: Any,
) -> None:
    inputs = fill(build_workspace)
    first = build_workspace.scores["rm"][0]
    stray = first.model_copy(update={"response_id": "0" * 16})
    against = first.model_copy(update={"against": "1" * 16, "status": "error", "value": None,
                                       "reason": "no verdict"})  # fmt: skip
    rewrite(inputs["annotate/rm"], Score, lambda rows: [against, *rows, stray])
    assert found(inputs, 4) == expected(build_workspace)


def test_an_index_of_other_shards_is_not_used(build_workspace: Any) -> None:
    inputs = fill(build_workspace)
    unit = inputs["sample/gemma"]
    write_index(unit)
    rewrite(unit, Response, lambda rows: [r.model_copy(update={"text": "new"}) for r in rows])
    assert not is_indexed(unit)
    gemma = [one for table in responses(unit) for one in table["digest"].to_pylist()]
    assert len(set(gemma)) == 1
    write_index(unit)
    assert is_indexed(unit)


BLANKS = st.text(" \t\n\x1c\x85\u00a0\u3000\u200bx\u60a8", max_size=4)
FINISHES = st.sampled_from(["stop", "length", "error", "unknown"])


@given(st.lists(st.tuples(st.text() | BLANKS, FINISHES)), st.integers(0, 3))
def test_columns_of_texts_are_digested_and_found_whole_as_each_text_is(
    rows: list[tuple[str, str]], skipped: int
) -> None:
    texts, finishes = (pa.array([row[n] for row in rows], pa.string())[skipped:] for n in (0, 1))
    digests = [one.hex() for one in text_digests(texts).to_pylist()]
    assert digests == [digest_bytes(text.encode()) for text, _ in rows[skipped:]]
    found = _whole(pa.chunked_array([finishes]), texts).tolist()
    assert found == [is_whole(finish, text) for text, finish in rows[skipped:]]


def test_a_damaged_index_is_named(build_workspace: Any) -> None:
    unit = fill(build_workspace)["sample/gemma"]
    write_index(unit)
    shards(unit / INDEX)[0].write_bytes(b"no parquet")
    with pytest.raises(DamagedError, match=r"00000\.parquet is damaged"):
        list(responses(unit))


def test_one_prompt_is_found_with_all_that_belongs_to_it(build_workspace: Any) -> None:
    inputs = fill(build_workspace)
    everything = [group for groups in blocks(inputs) for group in seen(groups)]
    for prompt, group in zip(build_workspace.prompts, everything, strict=True):
        assert seen(groups_of(inputs, prompt.id)) == [group]


def test_a_prompt_id_that_occurs_twice_is_an_error(build_workspace: Any) -> None:
    inputs = fill(build_workspace, 2)
    build_workspace.prompts.append(build_workspace.prompts[0])
    build_workspace.context({})
    with pytest.raises(ValueError, match="occurs twice"):
        next(blocks(inputs))


def test_the_columns_have_the_types_that_strategies_are_promised(build_workspace: Any) -> None:
    inputs = fill(build_workspace)
    groups = next(iter(blocks(inputs)))
    again = Groups.of(seen(groups))
    for name, values in again.columns.items():
        assert groups.columns[name].dtype == values.dtype, name
        assert np.array_equal(groups.columns[name], values), name
    assert np.array_equal(groups.starts, again.starts)
    assert groups.starts.dtype == again.starts.dtype

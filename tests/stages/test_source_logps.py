"""What the sources say of the preference rows, as a stream of requests and as tensors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tests.stages.stored_logps import KEPT, asked_of, store_logps

from fusechat.errors import StaleInputError
from fusechat.records import Message, Pair, Response, SourceLogp, Triple
from fusechat.stages.source_logps import (
    coverage,
    logp_counts,
    read_source_logps,
    sides_of,
    source_names,
)
from fusechat.tables import write_table
from fusechat.training.examples import Example


def pair(prompt: str, chosen: str, rejected: str) -> Pair:
    return Pair(
        prompt_id=prompt, messages=(Message(role="user", content=prompt),), chosen=chosen,
        rejected=rejected, chosen_id=f"{prompt}-{chosen}", rejected_id=f"{prompt}-{rejected}",
        source="one", origin="set", domain="chat",
    )  # fmt: skip


def triple(prompt: str) -> Triple:
    return Triple(
        prompt_id=prompt, messages=(Message(role="user", content=prompt),), source_chosen="a",
        target_chosen="b", rejected="c", source_chosen_id="a1", target_chosen_id="b1",
        rejected_id="c1", source="one", target_source="own", origin="set", domain="chat",
    )  # fmt: skip


@pytest.fixture
def build(tmp_path: Path) -> Path:
    rows = [pair("p", "x", "y"), pair("p", "x", "z"), pair("q", "x", "y")]
    write_table(tmp_path / "build" / "dpo", rows, Pair)
    return tmp_path / "build"


def example(*ids: str) -> Example:
    return Example("p", (), 1.0, response_ids=ids)


# --- Requests


def test_every_response_is_asked_for_once_prompt_by_prompt(build: Path) -> None:
    requests = asked_of({"build": build})
    assert [[row.response_id for row in group] for group in requests] == [
        ["p-x", "p-y", "p-z"], ["q-x", "q-y"],
    ]  # fmt: skip
    assert requests.survey() == 5
    first = next(iter(next(iter(requests))))
    assert (first.text, first.prompt.chat()) == ("x", [{"role": "user", "content": "p"}])
    assert (first.source, first.own) == ("one", None)


def test_the_same_text_to_the_same_prompt_is_the_same_row_whoever_wrote_it(build: Path) -> None:
    by_name = {row.response_id: row for group in asked_of({"build": build}) for row in group}
    assert by_name["p-x"].made_from != by_name["q-x"].made_from
    again = {row.response_id: row for group in asked_of({"build": build}) for row in group}
    assert {name: row.made_from for name, row in again.items()} == {
        name: row.made_from for name, row in by_name.items()
    }


def test_all_sides_of_triples_and_all_builds_are_asked_for(tmp_path: Path, build: Path) -> None:
    later = tmp_path / "later"
    write_table(later / "dpo", [triple("r")], Triple)
    groups = asked_of({"build": build, "build/on_policy": later})
    assert [row.response_id for group in groups for row in group][-3:] == ["a1", "b1", "c1"]
    assert sides_of(triple("r").model_dump()) == ("source_chosen", "target_chosen", "rejected")


def test_a_source_that_keeps_numbers_sees_its_own_responses_and_no_others(
    tmp_path: Path, build: Path
) -> None:
    own = [
        Response(id=name, prompt_id="p", source="one", index=0, text="x", finish="stop",
                 logprob=-2.0, tokens=3, model="m", made_from=name)
        for name in ("p-x", "elsewhere")
    ]  # fmt: skip
    write_table(tmp_path / "sample" / "data", own, Response)
    inputs = {"build": build, "sample/one": tmp_path / "sample"}
    rows = {row.response_id: row for group in asked_of(inputs, KEPT) for row in group}
    assert rows["p-x"].own == own[0]
    assert {name for name, row in rows.items() if row.own is not None} == {"p-x"}


def test_the_counts_say_what_was_told_and_why_the_rest_was_not(tmp_path: Path) -> None:
    rows = [
        SourceLogp(response_id="a", source="s", status="ok", logp=-4.0, tokens=2, made_from="1"),
        SourceLogp(response_id="b", source="s", status="ok", logp=-1.0, tokens=3, made_from="2"),
        SourceLogp(response_id="c", source="s", status="unscorable", reason="long", made_from="3"),
    ]
    write_table(tmp_path / "data", rows, SourceLogp)
    assert logp_counts(tmp_path) == {
        "responses": 3, "status": {"ok": 2, "unscorable": 1},
        "reasons": {"unscorable": {"long": 1}}, "tokens": 5, "token_logp": -1.0,
    }  # fmt: skip


# --- What training reads


def test_rows_sides_and_sources_stand_where_they_belong(tmp_path: Path, build: Path) -> None:
    inputs = {
        "build": build,
        "source_logps/one": store_logps(tmp_path / "one", {"a": (-1.0, 2), "b": (-3.0, 4)}),
        "source_logps/two": store_logps(tmp_path / "two", {"a": (-5.0, 6), "b": None}),
    }
    assert source_names(inputs) == ("one", "two")
    known = read_source_logps(inputs, [example("a", "b"), example("b", "a")])
    assert known.source_logps is not None
    assert known.source_lengths is not None
    assert known.source_logps.shape == known.source_lengths.shape == (2, 2, 2)
    assert known.source_logps.dtype == torch.float64
    assert known.source_logps[0, 0].tolist() == [-1.0, -5.0]
    assert known.source_logps[1, 0, 0] == -3.0
    assert math.isnan(known.source_logps[0, 1, 1])
    assert known.source_lengths[0].tolist() == [[2.0, 6.0], [4.0, 0.0]]
    assert known.reference is None


def test_without_sources_nothing_is_known(build: Path) -> None:
    assert read_source_logps({"build": build}, [example("a", "b")]).source_logps is None


def test_no_rows_still_have_their_sources(tmp_path: Path) -> None:
    inputs = {"source_logps/one": store_logps(tmp_path, {"a": (-1.0, 2)})}
    known = read_source_logps(inputs, [])
    assert known.source_logps is not None
    assert known.source_logps.shape[2] == 1


def test_a_response_that_was_never_asked_for_stops_the_training(tmp_path: Path) -> None:
    inputs = {"source_logps/one": store_logps(tmp_path, {"a": (-1.0, 2)})}
    with pytest.raises(StaleInputError, match=r"1 training rows \(prompt p.*--refresh"):
        read_source_logps(inputs, [example("a", "a"), example("a", "other")])


def test_the_coverage_counts_rows_that_some_source_knows_whole_or_not_at_all(
    tmp_path: Path,
) -> None:
    found: dict[str, tuple[float, int] | None] = {"a": (-1.0, 2), "b": None, "c": None}
    inputs = {
        "source_logps/one": store_logps(tmp_path / "one", found),
        "source_logps/two": store_logps(tmp_path / "two", {"a": None, "b": (-2.0, 1), "c": None}),
    }
    examples = [example("a", "b"), example("a", "c"), example("c", "c")]
    assert coverage(read_source_logps(inputs, examples)) == {
        "rows_with_sources": 1, "rows_without_sources": 1,
    }  # fmt: skip
    assert coverage(read_source_logps({}, examples)) == {}

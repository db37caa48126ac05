"""The simulator on runs that can be worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.forecast.simulate import (
    Fleet,
    SourceLoad,
    UnitCosts,
    headroom,
    simulate,
    tokens_per_second,
)

COSTS = UnitCosts(
    sample_cpu=1e-3, client_cpu=2e-3, samples_per_request=5, annotate_cpu=1e-3, build_cpu=1e-5,
    response_bytes=1000, score_bytes=100, set_bytes=2000, prompt_memory=5000, build_memory=200,
    fixed_memory=0, fsyncs_per_row=0.1, fsync_seconds=1e-3,
)  # fmt: skip
FLEET = Fleet(
    prompts=36_000, sources=(SourceLoad("a", 5, 1000.0, 10),), response_tokens=500,
    scores_per_second=10.0, scoring_gpus=5,
)  # fmt: skip


def test_the_hours_of_each_need_are_those_worked_by_hand() -> None:
    # 180,000 responses of 500 tokens are 9e7 tokens; 10 GPUs make 1e4 a second: 9,000 s.
    sample, annotate, build = simulate(FLEET, COSTS).stages
    assert sample.needs == pytest.approx(
        {"GPUs": 2.5, "writer": 180 / 3600, "client": 72 / 3600, "fsync": 18 / 3600}
    )
    assert (sample.hours, sample.slowest, sample.gpu_hours) == (2.5, "GPUs", 25.0)
    assert sample.share("writer") == pytest.approx(0.02)
    assert annotate.needs["GPUs"] == pytest.approx(1.0)  # 180,000 scores at 50 a second
    assert build.hours == pytest.approx(1.8 / 3600)


def test_disk_and_files_are_those_worked_by_hand() -> None:
    found = simulate(replace(FLEET, response_tokens=430), COSTS)
    assert found.disk == pytest.approx(36_000 * (5 * 1100 + 2000))
    # 180 shards and 9 index files for responses and again for scores; 36 + 36 for prompts, sets.
    assert found.files == 180 + 9 + 180 + 9 + 72
    assert found.files_in_a_folder == 180


def test_the_writer_is_named_where_it_is_the_limit() -> None:
    fast = replace(FLEET, sources=(SourceLoad("a", 5, 1e6, 10),))
    found = simulate(fast, COSTS)
    assert found.stages[0].slowest == "writer"
    # The GPUs would need 9 s, the writer 180 s.
    assert found.limits[0] == "sample/a: the writer is the limit, GPUs wait (20.0 x)"
    many = simulate(replace(fast, writers=10), COSTS)
    assert many.stages[0].hours == pytest.approx(found.stages[0].hours / 10)


def test_headroom_says_how_many_times_the_gpus_the_next_limit_allows() -> None:
    name, times = headroom(simulate(FLEET, COSTS).stages[0])
    assert (name, times) == ("writer", pytest.approx(50.0))


def test_memory_of_the_prompts_is_named_and_workspaces_divide_it() -> None:
    large = replace(FLEET, prompts=10_000_000)
    found = simulate(large, COSTS, memory_limit=40e9)
    assert found.memory["prompts"] == 50e9
    assert any(told.startswith("memory of prompts: 50 GB of 40 GB") for told in found.limits)
    divided = simulate(replace(large, workspaces=10), COSTS, memory_limit=40e9)
    assert divided.memory["prompts"] == 5e9
    assert not any("memory" in told for told in divided.limits)


def test_a_billion_rows_may_share_a_digest_and_it_is_said() -> None:
    fleet = replace(FLEET, prompts=10_000_000, sources=(SourceLoad("a", 100, 1000.0, 10),))
    found = simulate(fleet, COSTS)
    assert found.collision == pytest.approx(1 - math.exp(-(1e18) / 2 / 2**64), rel=1e-6)
    assert any("64-bit digest" in told for told in found.limits)
    assert simulate(replace(fleet, workspaces=100), COSTS).collision < 1e-5


@given(st.integers(1, 10**7), st.integers(1, 100), st.integers(1, 64))
def test_twice_the_prompts_take_twice_the_hours_and_disk(
    prompts: int, samples: int, gpus: int
) -> None:
    fleet = replace(FLEET, prompts=prompts, sources=(SourceLoad("a", samples, 900.0, gpus),))
    one, two = simulate(fleet, COSTS), simulate(replace(fleet, prompts=2 * prompts), COSTS)
    assert two.hours == pytest.approx(2 * one.hours)
    assert two.disk == pytest.approx(2 * one.disk)
    assert one.hours >= max(stage.hours for stage in one.stages)


def test_the_rule_of_thumb_gives_70_billion_parameters_700_tokens_a_second() -> None:
    assert tokens_per_second(70e9) == pytest.approx(9.89e13 / 1.4e11)  # 706
    assert tokens_per_second(7e9) == pytest.approx(10 * tokens_per_second(70e9))

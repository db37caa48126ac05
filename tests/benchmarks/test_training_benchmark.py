"""`benchmarks/training.py`: its rows, its FLOPs, and that it prints no ratio without agreement."""

from __future__ import annotations

from typing import Any

import pytest
import torch

work = pytest.importorskip("training_work")


def _setup(name: str = "D1", **changes: Any) -> Any:
    given = {
        "name": name, "config": "tiny", "device": torch.device("cpu"), "dtype": torch.float32,
        "rows": 4, "steps": 2,
    }  # fmt: skip
    return work.Setup(**{**given, **changes})


def test_every_peer_gets_the_same_rows_within_the_length_of_the_paper() -> None:
    first, again = work.make_steps(_setup(rows=64)), work.make_steps(_setup(rows=64))
    for one, other in zip(first, again, strict=True):
        for row, same in zip(one, other, strict=True):
            assert [t.ids.tolist() for t in row.texts] == [t.ids.tolist() for t in same.texts]
            assert len(row.texts) == 2
            assert max(len(text.ids) for text in row.texts) <= 2048
            assert row.shared == row.texts[0].start == row.texts[1].start
            assert {int(text.ids[-1]) for text in row.texts} == {2}


def test_the_flops_of_a_pair_are_those_worked_out_by_hand() -> None:
    # tiny: h 256, ff 768, 4 layers, 8 heads of 32, 4 key heads, V 4096.
    # body of a layer: 2 x 256 x 256 + 2 x 256 x 128 + 3 x 256 x 768 = 786,432; of 4: 3,145,728.
    (example,) = work.make_steps(_setup(rows=1, steps=1))[0]
    prompt, responses = example.texts[0].start, [text.length for text in example.texts]
    whole = [prompt + response for response in responses]
    body = 2 * 3_145_728
    head = 2 * 256 * 4096 * sum(responses)
    apart = body * sum(whole) + 4 * 256 * 4 * sum(n * n / 2 for n in whole) + head
    assert work.flops(_setup(), [example], shared=False) == pytest.approx(3 * apart)
    once = apart - body * prompt - 4 * 256 * 4 * prompt * prompt / 2
    assert work.flops(_setup(), [example], shared=True) == pytest.approx(3 * once)


def test_a_run_that_disagrees_prints_no_ratio() -> None:
    training = pytest.importorskip("training")
    agreement = {"allowed": (1e-4, 1e-4), "agree": False, "ours": {"loss": 1e-2, "gradient": 0.3}}
    said = training.shown({"name": "D1", "config": "tiny", "rows": 4, "agreement": agreement}, None)
    assert "They differ" in said
    assert "time / ours" not in said

"""Several ranks look as one does, also where each has only its share of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_tiny import context_of, pairs, save_base, save_build

from fusechat.files import read_jsonl
from fusechat.stages.train_ranks import train_here_or_on_ranks
from fusechat.stages.train_settings import DpoSettings

SETTINGS = DpoSettings.model_validate(
    {
        "global_batch_size": 6, "num_train_epochs": 1, "learning_rate": 3e-3,
        "held_out": 0.3, "watch": {"prompts": 3, "max_new_tokens": 6, "steps": 2},
    }
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_two_ranks_write_the_looks_of_one(sharding: str, tmp_path: Path) -> None:
    save_base(tmp_path / "base")
    save_build(tmp_path / "build", dpo=pairs(24))
    one = _looks(tmp_path, "one")
    two = _looks(tmp_path, "two", ranks=2, sharding=sharding)
    assert [look["step"] for look in one] == [look["step"] for look in two] == [0, 2, 3]
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-4, abs=1e-5)


def _looks(folder: Path, unit: str, **where: Any) -> list[dict[str, Any]]:
    context = context_of(folder / unit, folder / "base", folder / "build", SETTINGS, **where)
    train_here_or_on_ranks(context, "train_dpo")
    return list(read_jsonl(folder / unit / "watch.jsonl"))

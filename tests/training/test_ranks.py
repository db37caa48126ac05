"""Several processes train as one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rank_work import train_unit
from training_tiny import bytes_of, pairs, save_base, save_build

from fusechat.errors import TrainingError
from fusechat.parts import Where
from fusechat.training.ranks import find_ranks, launched


def test_alone_a_process_is_rank_0_of_1_on_the_device_that_was_named() -> None:
    ranks = find_ranks(Where(device="cpu"))
    assert (ranks.rank, ranks.world, ranks.main) == (0, 1, True)
    assert ranks.device == torch.device("cpu")
    assert find_ranks(Where()).device.type in ("cpu", "cuda", "mps", "xpu")


def _as_rank(monkeypatch: pytest.MonkeyPatch, local: int, here: int, visible: int) -> None:
    values = {"RANK": local, "LOCAL_RANK": local, "WORLD_SIZE": here, "LOCAL_WORLD_SIZE": here}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: visible)


def test_more_ranks_than_gpus_are_refused_on_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in (0, 3):
        _as_rank(monkeypatch, rank, 4, 2)
        with pytest.raises(TrainingError, match=r"4 ranks on a machine where 2 GPUs.*at most 2"):
            find_ranks(Where(device="cuda"))


def test_one_gpu_by_name_is_no_place_for_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    _as_rank(monkeypatch, 0, 2, 2)
    with pytest.raises(TrainingError, match=r"'cuda:1'.*Write device: cuda or auto"):
        find_ranks(Where(device="cuda:1"))


def test_a_process_is_launched_only_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not launched()
    _as_rank(monkeypatch, 0, 1, 1)
    assert not launched()
    _as_rank(monkeypatch, 0, 2, 2)
    assert launched()


@pytest.mark.slow
def test_torchrun_trains_a_unit_on_its_ranks_and_a_run_closes_it(tmp_path: Path) -> None:
    save_base(tmp_path / "base")
    save_build(tmp_path / "build", dpo=pairs(16))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(Path(__file__).with_name("torchrun_unit.py")), str(tmp_path),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, timeout=280)
    trained = bytes_of(tmp_path / "unit")
    assert train_unit(tmp_path, "unit")["steps"] == 6
    assert bytes_of(tmp_path / "unit") == trained

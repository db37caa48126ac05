"""Several processes train as one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_tiny import pairs, save_base, save_build

from fusechat.files import read_jsonl
from fusechat.parts import Where
from fusechat.training.ranks import find_ranks

CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from train_forked import run
run(Path(sys.argv[2]), "dpo", sys.argv[3])
"""


def test_alone_a_process_is_rank_0_of_1_on_the_device_that_was_named() -> None:
    ranks = find_ranks(Where(device="cpu"))
    assert (ranks.rank, ranks.world, ranks.main) == (0, 1, True)
    assert ranks.device == torch.device("cpu")
    assert find_ranks(Where()).device.type in ("cpu", "cuda", "mps", "xpu")


@pytest.mark.slow
def test_two_real_processes_give_the_loss_curve_of_one(tmp_path: Path) -> None:
    save_base(tmp_path / "base")
    save_build(tmp_path / "build", dpo=pairs(16))
    _launch(tmp_path, "one", 1)
    _launch(tmp_path, "two", 2)
    one, two = (list(read_jsonl(tmp_path / unit / "metrics.jsonl")) for unit in ("one", "two"))
    assert len(one) == len(two) == 6
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-5, abs=1e-6)


def _launch(folder: Path, unit: str, world: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(Path(__file__).parent), str(folder), unit],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank),
                 "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        )
        for rank in range(world)
    ]  # fmt: skip
    assert [process.wait(120) for process in processes] == [0] * world

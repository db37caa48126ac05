"""Ranks of this machine are started together, watched, and ended together."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fusechat.errors import TrainingError
from fusechat.progress import Progress
from fusechat.training.launch import run_on_ranks


class Heard(Progress):
    """Keeps what it is told."""

    def __init__(self, interrupt: bool = False) -> None:
        super().__init__("")
        self.told: list[object] = []
        self.interrupt = interrupt

    def start(self, total: int, what: str, done: int = 0) -> None:
        self.told.append((total, what, done))

    def advance(self, count: int = 1) -> None:
        self.told.append(count)

    def note(self, text: str) -> None:
        self.told.append(text)
        if self.interrupt:
            raise KeyboardInterrupt


def test_rank_0_reports_and_its_value_comes_back(tmp_path: Path) -> None:
    heard = Heard()
    value = run_on_ranks("rank_work:echo", {"a": 1}, count=2, folder=tmp_path, progress=heard)
    assert value == ({"a": 1}, "0", "2")
    assert heard.told == [(2, "steps", 0), 1, "rank 0"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank-0.log", "rank-1.log"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("kill", r"rank 1 of 2 was ended by SIGKILL.*memory.*about to fall.*rank-1\.log"),
        ("late", r"rank 1 of 2 was ended by SIGKILL.*about to fall"),
        ("trace", r"rank 1 of 2 failed: ZeroDivisionError: of a bug"),
        ("error", r"^nothing to train on\.$"),
    ],
)
def test_a_rank_that_falls_ends_the_others_at_once_and_is_named(
    how: str, said: str, tmp_path: Path
) -> None:
    begun = time.monotonic()
    with pytest.raises(TrainingError, match=said):
        run_on_ranks("rank_work:die_as_rank_1", how, count=2, folder=tmp_path, progress=Heard())
    assert time.monotonic() - begun < 50  # rank 0 would have slept for 60 s


def test_an_interrupt_here_ends_all_ranks(tmp_path: Path) -> None:
    heard = Heard(interrupt=True)
    with pytest.raises(KeyboardInterrupt):
        run_on_ranks("rank_work:sleep", None, count=2, folder=tmp_path, progress=heard)
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(heard.told[0])), 0)
